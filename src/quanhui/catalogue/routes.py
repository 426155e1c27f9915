"""The catalogue over HTTP: anyone may look; operators add to it, so that a new product is data."""

from datetime import date
from typing import Annotated

from litestar import Response, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct

from quanhui.base.access import Scope, needs, open_to_public
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call
from quanhui.catalogue.actions import enrol, set_product_status
from quanhui.catalogue.codes import CodeFormat
from quanhui.catalogue.rules import (
    OWN_REGISTRY,
    Brand,
    Capability,
    Category,
    Issuer,
    LegalClass,
    Product,
    ProductStatus,
    Validity,
)
from quanhui.catalogue.snapshot import Catalogue, CatalogueCache, load_catalogue

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Word = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{1,39}$")]
RegionCode = Annotated[str, Meta(pattern="^[1-9][0-9]{5}$")]
Fen = Annotated[int, Meta(ge=1, le=100_000_000)]
ProductId = Annotated[str, PathParameter(max_length=64, description="Product id.")]
Law = Annotated[LegalClass | None, QueryParameter(description="What it is in law.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
Cursor = Annotated[str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before.")]


class CategoryView(Struct, frozen=True):
    """A line of trade 品类."""

    code: Annotated[str, Meta(examples=["supermarket"])]
    zh: Annotated[str, Meta(examples=["商超"])]
    en: Annotated[str, Meta(examples=["Supermarket"])]


class IssuerView(Struct, frozen=True):
    """An issuer 发行方 and what it can do for its vouchers."""

    id: str
    zh: str
    en: str
    is_own: Annotated[bool, Meta(description="Whether our own registry is the issuer's book.")]
    capabilities: list[Capability]


class BrandView(Struct, frozen=True):
    """A brand 品牌."""

    id: str
    zh: str
    en: str


class ProductView(Struct, frozen=True, kw_only=True):
    """A voucher product 券种. The format of its codes is not shown."""

    id: Annotated[str, Meta(examples=["vpr_01jd8x9k2mf3wvq5t7y1h4n6pz"])]
    zh: str
    en: str
    issuer: IssuerView
    brand: BrandView
    category: CategoryView
    legal_class: LegalClass
    multi_draw: Annotated[bool, Meta(description="Whether it may be spent in parts.")]
    face_values_fen: Annotated[list[int], Meta(description="Face values sold, in fen.", examples=[[10_000]])]
    fee_bps: Annotated[int, Meta(description="Service fee in basis points: 800 is 8%.")]
    days_from_issue: int | None
    last_day: date | None
    region_codes: Annotated[list[str], Meta(description="GB/T 2260 codes; empty: the whole country.")]
    store_ids: Annotated[list[str], Meta(description="Empty: every store of the regions.")]
    status: ProductStatus
    version: int


class NewCategory(Struct, frozen=True, forbid_unknown_fields=True):
    """A category to add."""

    code: Annotated[Word, Meta(description="A word of your own.", examples=["bakery"])]
    zh: Annotated[Name, Meta(examples=["烘焙"])]
    en: Annotated[Name, Meta(examples=["Bakery"])]


class NewIssuer(Struct, frozen=True, forbid_unknown_fields=True):
    """An issuer to add."""

    zh: Annotated[Name, Meta(examples=["锦里礼享卡务"])]
    en: Annotated[Name, Meta(examples=["Jinli Gift Cards"])]
    connector: Annotated[Word, Meta(description="Kind of connection to the issuer.", examples=["sandbox"])]
    capabilities: Annotated[
        frozenset[Capability], Meta(min_length=1, examples=[["verify", "lock", "redeem"]])
    ]
    base_url_key: Annotated[
        Word | None, Meta(description="Setting that holds its address.", examples=["issuer_sandbox_url"])
    ] = None

    def __post_init__(self) -> None:
        if (self.connector == OWN_REGISTRY) != (self.base_url_key is None):
            raise ValueError("an outside issuer has a base_url_key, our own registry has none")


class NewBrand(Struct, frozen=True, forbid_unknown_fields=True):
    """A brand to add."""

    zh: Annotated[Name, Meta(examples=["蓉家福"])]
    en: Annotated[Name, Meta(examples=["Rongjiafu"])]


class NewProduct(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A voucher product to add; its parts must be in the catalogue already."""

    issuer_id: Annotated[str, Meta(max_length=64, examples=["iss_01jd8x9k2mf3wvq5t7y1h4n6pz"])]
    brand_id: Annotated[str, Meta(max_length=64, examples=["brd_01jd8x9k2mf3wvq5t7y1h4n6pz"])]
    category: Annotated[Word, Meta(examples=["supermarket"])]
    zh: Annotated[Name, Meta(examples=["蓉家福购物卡"])]
    en: Annotated[Name, Meta(examples=["Rongjiafu shopping card"])]
    legal_class: LegalClass
    multi_draw: Annotated[bool, Meta(examples=[True])]
    face_values_fen: Annotated[
        tuple[Fen, ...], Meta(min_length=1, max_length=50, examples=[[10_000, 20_000]])
    ]
    code_format: Annotated[
        CodeFormat,
        Meta(
            examples=[
                {
                    "prefix": "RJ50",
                    "alphabet": "0123456789ABCDEFGHJKMNPQRSTVWXYZ",
                    "body_length": 11,
                    "check": "iso7064_mod37_36",
                }
            ]
        ),
    ]
    fee_bps: Annotated[int, Meta(ge=800, le=1200, description="Service fee in basis points.", examples=[900])]
    validity: Annotated[Validity, Meta(examples=[{"days_from_issue": 1095}])]
    region_codes: Annotated[tuple[RegionCode, ...], Meta(max_length=400, examples=[["510000"]])] = ()
    store_ids: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=5000)] = ()


class NewStatus(Struct, frozen=True, forbid_unknown_fields=True):
    """The status a product should have."""

    status: ProductStatus


class StatusView(Struct, frozen=True):
    """The status a product has, and the count of its changes."""

    id: str
    status: ProductStatus
    version: int


@get("/catalogue/categories", opt=open_to_public(), operation_id="list_categories", tags=["catalogue"])
async def list_categories(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache]
) -> Response[list[CategoryView]]:
    """List categories 品类

    Every line of trade, in the order in which they were added.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    return Response([_category_view(category) for category in catalogue.categories.values()])


@post(
    "/catalogue/categories",
    opt=needs("catalogue.manage", Scope.ALL),
    operation_id="add_category",
    tags=["catalogue"],
    status_code=201,
)
async def add_category(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], data: JSONBody[NewCategory]
) -> Response[CategoryView]:
    """Add a category 新增品类

    Refused with `category-exists` when the code is taken.
    """
    category = Category(code=data.code, zh=data.zh, en=data.en)

    async def add(db: Db) -> CategoryView:
        await enrol(db, categories=[category], now=call.now)
        return _category_view(category)

    answer = await call.command(add, status=201)
    catalogues.look_again()
    return answer


@get("/catalogue/issuers", opt=open_to_public(), operation_id="list_issuers", tags=["catalogue"])
async def list_issuers(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache]
) -> Response[list[IssuerView]]:
    """List issuers 发行方

    Every issuer, with what it can do for its vouchers.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    return Response([_issuer_view(issuer) for issuer in catalogue.issuers.values()])


@post(
    "/catalogue/issuers",
    opt=needs("catalogue.manage", Scope.ALL),
    operation_id="add_issuer",
    tags=["catalogue"],
    status_code=201,
)
async def add_issuer(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], data: JSONBody[NewIssuer]
) -> Response[IssuerView]:
    """Add an issuer 新增发行方

    The connector names how the platform reaches it.
    """

    async def add(db: Db) -> IssuerView:
        issuer = Issuer(
            id=new_id("iss"),
            zh=data.zh,
            en=data.en,
            connector=data.connector,
            capabilities=data.capabilities,
            base_url_key=data.base_url_key,
        )
        await enrol(db, issuers=[issuer], now=call.now)
        return _issuer_view(issuer)

    answer = await call.command(add, status=201)
    catalogues.look_again()
    return answer


@get("/catalogue/brands", opt=open_to_public(), operation_id="list_brands", tags=["catalogue"])
async def list_brands(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache]
) -> Response[list[BrandView]]:
    """List brands 品牌

    Every brand that a voucher may carry.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    return Response([_brand_view(brand) for brand in catalogue.brands.values()])


@post(
    "/catalogue/brands",
    opt=needs("catalogue.manage", Scope.ALL),
    operation_id="add_brand",
    tags=["catalogue"],
    status_code=201,
)
async def add_brand(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], data: JSONBody[NewBrand]
) -> Response[BrandView]:
    """Add a brand 新增品牌

    Products refer to it by the id in the answer.
    """

    async def add(db: Db) -> BrandView:
        brand = Brand(id=new_id("brd"), zh=data.zh, en=data.en)
        await enrol(db, brands=[brand], now=call.now)
        return _brand_view(brand)

    answer = await call.command(add, status=201)
    catalogues.look_again()
    return answer


@get("/catalogue/products", opt=open_to_public(), operation_id="list_products", tags=["catalogue"])
async def list_products(
    call: NamedDependency[Call],
    catalogues: NamedDependency[CatalogueCache],
    category: Annotated[str | None, QueryParameter(max_length=40, description="Category code.")] = None,
    issuer: Annotated[str | None, QueryParameter(max_length=64, description="Issuer id.")] = None,
    legal_class: Law = None,
    text: Annotated[str | None, QueryParameter(max_length=100, description="Part of a name.")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[ProductView]]:
    """List products 券种

    Newest first; every filter narrows the list.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    found = catalogue.find(
        category=category,
        issuer_id=issuer,
        legal_class=legal_class,
        text=text,
        cursor=cursor,
        limit=limit + 1,
    )
    return Response(page_of([_product_view(product, catalogue) for product in found], limit=limit))


@get(
    "/catalogue/products/{product_id:str}",
    opt=open_to_public(),
    operation_id="get_product",
    tags=["catalogue"],
)
async def get_product(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], product_id: ProductId
) -> Response[ProductView]:
    """Show a product 券种

    One voucher product with its issuer, brand and reach.
    """
    catalogue = await catalogues.get(call.pool, call.now)
    product = catalogue.products.get(product_id)
    if product is None:
        raise NotFound
    return Response(_product_view(product, catalogue))


@post(
    "/catalogue/products",
    opt=needs("catalogue.manage", Scope.ALL),
    operation_id="add_product",
    tags=["catalogue"],
    status_code=201,
)
async def add_product(
    call: NamedDependency[Call], catalogues: NamedDependency[CatalogueCache], data: JSONBody[NewProduct]
) -> Response[ProductView]:
    """Add a product 新增券种

    It is bought and sold from now on. Refused with `unknown-reference` when its issuer, brand or
    category is not in the catalogue.
    """

    async def add(db: Db) -> ProductView:
        fields = {name: getattr(data, name) for name in data.__struct_fields__}
        product = Product(id=new_id("vpr"), **fields)
        await enrol(db, products=[product], now=call.now)
        return _product_view(product, await load_catalogue(db))

    answer = await call.command(add, status=201)
    catalogues.look_again()
    return answer


@patch(
    "/catalogue/products/{product_id:str}",
    opt=needs("catalogue.manage", Scope.ALL),
    operation_id="set_product_status",
    tags=["catalogue"],
)
async def change_product(
    call: NamedDependency[Call],
    catalogues: NamedDependency[CatalogueCache],
    product_id: ProductId,
    data: JSONBody[NewStatus],
) -> Response[StatusView]:
    """Open, suspend or retire a product 启用/暂停/停用券种

    Codes of a product that is not active are no longer recognised for buyback.
    """

    async def change(db: Db) -> StatusView:
        version = await set_product_status(db, product_id, data.status)
        return StatusView(product_id, data.status, version)

    answer = await call.command(change)
    catalogues.look_again()
    return answer


def _category_view(category: Category) -> CategoryView:
    return CategoryView(category.code, category.zh, category.en)


def _issuer_view(issuer: Issuer) -> IssuerView:
    return IssuerView(issuer.id, issuer.zh, issuer.en, issuer.is_own, sorted(issuer.capabilities))


def _brand_view(brand: Brand) -> BrandView:
    return BrandView(brand.id, brand.zh, brand.en)


def _product_view(product: Product, catalogue: Catalogue) -> ProductView:
    return ProductView(
        id=product.id,
        zh=product.zh,
        en=product.en,
        issuer=_issuer_view(catalogue.issuer_of(product.id)),
        brand=_brand_view(catalogue.brands[product.brand_id]),
        category=_category_view(catalogue.categories[product.category]),
        legal_class=product.legal_class,
        multi_draw=product.multi_draw,
        face_values_fen=list(product.face_values_fen),
        fee_bps=product.fee_bps,
        days_from_issue=product.validity.days_from_issue,
        last_day=product.validity.last_day,
        region_codes=list(product.region_codes),
        store_ids=list(product.store_ids),
        status=product.status,
        version=product.version,
    )


handlers: list[HTTPRouteHandler] = [
    list_categories,
    add_category,
    list_issuers,
    add_issuer,
    list_brands,
    add_brand,
    list_products,
    get_product,
    add_product,
    change_product,
]
