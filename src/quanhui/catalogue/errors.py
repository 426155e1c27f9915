"""The named failures of the catalogue."""

from quanhui.base.errors import Problem


class CategoryExists(Problem):
    """A category with this code is there already."""

    code, status = "category-exists", 409
    zh, en = "该品类已存在", "There is a category with this code already"
    remedy_zh = "请直接使用已有品类，或换一个代码。"
    remedy_en = "Use the existing category, or choose another code."


class UnknownReference(Problem):
    """A product names an issuer, brand or category that the catalogue does not hold; `field` says which."""

    code, status = "unknown-reference", 409
    zh, en = "引用的发行方、品牌或品类不存在", "The issuer, brand or category named is not in the catalogue"
    remedy_zh = "请先新增对应的发行方、品牌或品类，再新增券种。"
    remedy_en = "Add the issuer, brand or category first, then the product."
