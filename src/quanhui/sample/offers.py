"""Issuers, brands and voucher products, all invented: every category, legal class and kind of code."""

from string import digits

import msgspec

from quanhui.catalogue import (
    OWN_ALPHABET,
    OWN_REGISTRY,
    Brand,
    Capability,
    CheckAlgorithm,
    CodeFormat,
    Issuer,
    LegalClass,
    Product,
    Validity,
)
from quanhui.sample.dice import Names

OUTSIDE_CONNECTOR = "sandbox"
OUTSIDE_URL_SETTING = "issuer_url"
YUAN = 100
SICHUAN, CHONGQING, CHENGDU = "510000", "500000", "510100"

_ASK = frozenset({Capability.VERIFY, Capability.LOCK, Capability.REDEEM})
_ALL = frozenset(Capability)
_NO_EXTENSION = _ALL - {Capability.EXTEND}

_BEARER, _REGISTERED = LegalClass.SINGLE_PURPOSE_BEARER, LegalClass.SINGLE_PURPOSE_REGISTERED
_GOODS, _COUPON = LegalClass.GOODS_VOUCHER, LegalClass.MARKETING_COUPON
_MULTI, _FOREIGN = LegalClass.MULTI_PURPOSE, LegalClass.FOREIGN_BRAND_GIFT_CODE

_LUHN, _MOD97 = CheckAlgorithm.LUHN, CheckAlgorithm.ISO7064_MOD97_10
_MOD37, _NONE = CheckAlgorithm.ISO7064_MOD37_36, CheckAlgorithm.NONE

OWN_BODY_LENGTH = 13
THREE_YEARS, TWO_YEARS, ONE_YEAR, HALF_A_YEAR, ONE_QUARTER = 1095, 730, 365, 180, 90

ISSUERS = (
    # name, name in English, brand, brand in English, capabilities
    ("蓉家福商业集团", "Rongjiafu Retail Group", "蓉家福", "Rongjiafu", _ALL),
    ("锦川通卡务", "Jinchuantong Card Services", "锦川通", "Jinchuantong", _ALL),
    ("川醴坊酒业", "Chuanlifang Spirits", "川醴坊", "Chuanlifang", _NO_EXTENSION),
    ("醉锦江酒藏", "Zuijinjiang Cellars", "醉锦江", "Zuijinjiang", _ASK),
    ("椒麻巷餐饮", "Jiaoma Lane Restaurants", "椒麻巷", "Jiaoma Lane", _ALL),
    ("九格鼎火锅", "Nine-Grid Hotpot", "九格鼎", "Nine-Grid", _NO_EXTENSION),
    ("竹里小馆", "Zhuli Bistro", "竹里小馆", "Zhuli Bistro", _ASK),
    ("行川旅行", "Xingchuan Travel", "行川", "Xingchuan", _ALL),
    ("云栈酒店", "Yunzhan Hotels", "云栈", "Yunzhan", _NO_EXTENSION),
    ("淘蜀优品", "Taoshu Goods Online", "淘蜀优品", "Taoshu Goods", _NO_EXTENSION),
    ("星贝数卡", "Starshell Digital Cards", "北风商店", "Northwind Store", _ASK),
    ("锦程能源", "Jincheng Fuel", "锦程", "Jincheng", _ALL),
)


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A product as this table writes it: faces in yuan, days from issue (None: no expiry)."""

    issuer: int
    category: str
    zh: str
    en: str
    law: LegalClass
    faces_yuan: tuple[int, ...]
    code: CodeFormat
    fee_bps: int
    days: int | None = THREE_YEARS
    draws: bool = False
    regions: tuple[str, ...] = ()


def _own(letter: str) -> CodeFormat:
    return CodeFormat(prefix=f"RJ{letter}", alphabet=OWN_ALPHABET, body_length=OWN_BODY_LENGTH, check=_MOD37)


def _numeric(prefix: str, length: int, check: CheckAlgorithm) -> CodeFormat:
    body_length = length - len(prefix) - check.length
    return CodeFormat(prefix=prefix, alphabet=digits, body_length=body_length, check=check)


def _lettered(prefix: str, body_length: int, check: CheckAlgorithm) -> CodeFormat:
    return CodeFormat(prefix=prefix, alphabet=OWN_ALPHABET, body_length=body_length, check=check)


KINDS = (
    Kind(issuer=0, category="supermarket", zh="蓉家福购物卡", en="Rongjiafu shopping card", law=_BEARER,
         faces_yuan=(100, 200, 300, 500, 1000), code=_own("A"), fee_bps=800, draws=True),
    Kind(issuer=0, category="supermarket", zh="蓉家福记名卡", en="Rongjiafu registered card", law=_REGISTERED,
         faces_yuan=(1000, 2000, 5000), code=_own("B"), fee_bps=800, days=None, draws=True),
    Kind(issuer=0, category="supermarket", zh="蓉家福员工福利券", en="Rongjiafu welfare voucher", law=_BEARER,
         faces_yuan=(50, 100, 200), code=_own("C"), fee_bps=850),
    Kind(issuer=0, category="supermarket", zh="粮油提货券", en="Rice and oil voucher", law=_GOODS,
         faces_yuan=(128, 198, 298), code=_own("D"), fee_bps=1000, days=ONE_YEAR,
         regions=(SICHUAN, CHONGQING)),
    Kind(issuer=0, category="supermarket", zh="生鲜到店券", en="Fresh food voucher", law=_GOODS,
         faces_yuan=(58, 88), code=_own("E"), fee_bps=1100, days=HALF_A_YEAR, regions=(CHENGDU,)),
    Kind(issuer=0, category="supermarket", zh="蓉家福满减券", en="Rongjiafu discount coupon", law=_COUPON,
         faces_yuan=(10, 20, 50), code=_own("F"), fee_bps=1200, days=ONE_QUARTER),
    Kind(issuer=0, category="liquor", zh="蓉家福名酒提货券", en="Rongjiafu fine spirits voucher", law=_GOODS,
         faces_yuan=(599, 999), code=_own("G"), fee_bps=900, days=TWO_YEARS),
    Kind(issuer=1, category="supermarket", zh="锦川通多用途卡", en="Jinchuantong multi-card", law=_MULTI,
         faces_yuan=(100, 200, 500, 1000), code=_numeric("8801", 19, _LUHN), fee_bps=900, draws=True),
    Kind(issuer=1, category="supermarket", zh="锦川通商超卡", en="Jinchuantong grocery card", law=_BEARER,
         faces_yuan=(100, 300, 500), code=_numeric("8802", 19, _LUHN), fee_bps=850, draws=True,
         regions=(SICHUAN,)),
    Kind(issuer=1, category="supermarket", zh="锦川通优惠券", en="Jinchuantong coupon", law=_COUPON,
         faces_yuan=(20, 30), code=_numeric("8809", 16, _MOD97), fee_bps=1200, days=ONE_QUARTER),
    Kind(issuer=2, category="liquor", zh="川醴坊提货券", en="Chuanlifang spirits voucher", law=_GOODS,
         faces_yuan=(399, 799, 1299), code=_lettered("CLF", 12, _MOD37), fee_bps=950, days=TWO_YEARS),
    Kind(issuer=2, category="liquor", zh="川醴坊储值卡", en="Chuanlifang value card", law=_REGISTERED,
         faces_yuan=(1000, 3000), code=_numeric("7701", 18, _MOD97), fee_bps=900, days=None, draws=True),
    Kind(issuer=3, category="liquor", zh="醉锦江品鉴券", en="Zuijinjiang tasting voucher", law=_GOODS,
         faces_yuan=(268, 568), code=_lettered("ZJJ", 14, _NONE), fee_bps=1050, days=ONE_YEAR),
    Kind(issuer=4, category="restaurant", zh="椒麻巷代金券", en="Jiaoma Lane cash voucher", law=_BEARER,
         faces_yuan=(50, 100), code=_numeric("66", 16, _LUHN), fee_bps=1000),
    Kind(issuer=4, category="restaurant", zh="椒麻巷会员卡", en="Jiaoma Lane member card", law=_BEARER,
         faces_yuan=(200, 500, 1000), code=_numeric("67", 17, _MOD97), fee_bps=950, draws=True),
    Kind(issuer=5, category="restaurant", zh="九格鼎套餐券", en="Nine-Grid set menu voucher", law=_GOODS,
         faces_yuan=(128, 238, 398), code=_lettered("JGD", 11, _MOD37), fee_bps=1050, days=HALF_A_YEAR,
         regions=(SICHUAN, CHONGQING)),
    Kind(issuer=6, category="restaurant", zh="竹里小馆体验券", en="Zhuli Bistro trial coupon", law=_COUPON,
         faces_yuan=(30, 60), code=_lettered("ZL", 10, _NONE), fee_bps=1200, days=ONE_QUARTER,
         regions=(CHENGDU,)),
    Kind(issuer=7, category="travel", zh="行川旅行卡", en="Xingchuan travel card", law=_BEARER,
         faces_yuan=(500, 1000), code=_numeric("5501", 18, _LUHN), fee_bps=900, draws=True),
    Kind(issuer=7, category="travel", zh="行川景区联票", en="Xingchuan scenic pass", law=_GOODS,
         faces_yuan=(158, 318), code=_lettered("XC", 12, _MOD37), fee_bps=1100, days=ONE_YEAR,
         regions=(SICHUAN,)),
    Kind(issuer=8, category="travel", zh="云栈住宿券", en="Yunzhan night voucher", law=_GOODS,
         faces_yuan=(388, 688), code=_lettered("YZ", 13, _MOD37), fee_bps=1000, days=ONE_YEAR),
    Kind(issuer=9, category="ecommerce_code", zh="淘蜀优品卡密", en="Taoshu Goods gift code", law=_BEARER,
         faces_yuan=(50, 100, 200, 500), code=_lettered("TS", 16, _MOD37), fee_bps=800),
    Kind(issuer=9, category="ecommerce_code", zh="淘蜀优品红包码", en="Taoshu Goods coupon code", law=_COUPON,
         faces_yuan=(10, 30), code=_lettered("TH", 12, _NONE), fee_bps=1200, days=ONE_QUARTER),
    Kind(issuer=10, category="ecommerce_code", zh="北风商店礼品码", en="Northwind gift code", law=_FOREIGN,
         faces_yuan=(100, 300, 500), code=_lettered("NW", 15, _NONE), fee_bps=1200, draws=True),
    Kind(issuer=10, category="ecommerce_code", zh="北风游戏点卡", en="Northwind game code", law=_FOREIGN,
         faces_yuan=(50, 100), code=_lettered("NG", 14, _MOD37), fee_bps=1150),
    Kind(issuer=11, category="fuel", zh="锦程加油卡", en="Jincheng fuel card", law=_REGISTERED,
         faces_yuan=(500, 1000, 2000), code=_numeric("9901", 19, _LUHN), fee_bps=850, days=None, draws=True),
    Kind(issuer=11, category="fuel", zh="锦程加油券", en="Jincheng fuel voucher", law=_BEARER,
         faces_yuan=(100, 200), code=_numeric("9902", 18, _MOD97), fee_bps=900),
)  # fmt: skip


class Offers(msgspec.Struct, frozen=True):
    """What `catalogue.enrol` takes; the issuers' own products come first."""

    issuers: list[Issuer]
    brands: list[Brand]
    products: list[Product]

    def own(self) -> list[Product]:
        """Products whose vouchers live in our registry."""
        return [product for product in self.products if product.issuer_id == self.issuers[0].id]

    def outside(self) -> list[Product]:
        """Products whose vouchers live in the books of others."""
        return [product for product in self.products if product.issuer_id != self.issuers[0].id]


def make_offers(seed: int) -> Offers:
    """The same issuers, brands and products under the same ids for a seed."""
    issuer_ids, brand_ids, product_ids = (Names(seed, prefix) for prefix in ("iss", "brd", "vpr"))
    issuers = [
        Issuer(
            id=issuer_ids.next(),
            zh=zh,
            en=en,
            connector=OUTSIDE_CONNECTOR if position else OWN_REGISTRY,
            capabilities=capabilities,
            base_url_key=OUTSIDE_URL_SETTING if position else None,
        )
        for position, (zh, en, _, _, capabilities) in enumerate(ISSUERS)
    ]
    brands = [Brand(id=brand_ids.next(), zh=zh, en=en) for _, _, zh, en, _ in ISSUERS]
    products = [
        Product(
            id=product_ids.next(),
            issuer_id=issuers[kind.issuer].id,
            brand_id=brands[kind.issuer].id,
            category=kind.category,
            zh=kind.zh,
            en=kind.en,
            legal_class=kind.law,
            multi_draw=kind.draws,
            face_values_fen=tuple(face * YUAN for face in kind.faces_yuan),
            code_format=kind.code,
            fee_bps=kind.fee_bps,
            validity=Validity(days_from_issue=kind.days),
            region_codes=kind.regions,
        )
        for kind in KINDS
    ]
    return Offers(issuers, brands, products)
