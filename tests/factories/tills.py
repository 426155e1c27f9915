"""A small trade: issuers, products, stores with tills, and vouchers to spend there."""

import itertools
import random
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from quanhui import catalogue, places, redemption, vouchers
from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring
from quanhui.catalogue import (
    OWN_ALPHABET,
    Brand,
    Capability,
    Catalogue,
    CheckAlgorithm,
    CodeFormat,
    Issuer,
    LegalClass,
    Product,
    Validity,
)
from quanhui.redemption import Presented, Redemption, Till

OWN = CodeFormat(prefix="RJ", alphabet=OWN_ALPHABET, body_length=14, check=CheckAlgorithm.ISO7064_MOD37_36)
FOREIGN = CodeFormat(prefix="KD", alphabet="0123456789", body_length=12, check=CheckAlgorithm.LUHN)

_keys = itertools.count(1)


@dataclass
class Trade:
    """What there is. `card` may be spent in parts in Sichuan, `ticket` only whole, `foreign` is of an
    outside issuer; `local` is good in one store alone, `retired` is no longer sold."""

    catalogue: Catalogue
    card: Product
    ticket: Product
    foreign: Product
    local: Product
    retired: Product
    till: Till
    next_door: Till
    far_away: Till


def _store(number: int, merchant_id: str, region_code: str) -> places.Store:
    return places.Store(
        id=new_id("sto"),
        merchant_id=merchant_id,
        region_code=region_code,
        zh=f"蓉家福第{number}店",
        address="科华北路1号",
        kind=places.StoreKind.SUPERMARKET,
        lon=104.07,
        lat=30.63,
        opens=time(8),
        closes=time(22),
    )


async def _places(db: Db, now: datetime) -> list[Till]:
    level = places.RegionLevel
    regions = [
        places.Region(code="510000", parent_code=None, level=level.PROVINCE, zh="四川省"),
        places.Region(code="110000", parent_code=None, level=level.PROVINCE, zh="北京市"),
        places.Region(code="510100", parent_code="510000", level=level.CITY, zh="成都市"),
        places.Region(code="510107", parent_code="510100", level=level.DISTRICT, zh="武侯区"),
        places.Region(code="110101", parent_code="110000", level=level.DISTRICT, zh="东城区"),
    ]
    merchants = [
        places.Merchant(id=new_id("mer"), zh="蓉家福", en="Rongjiafu"),
        places.Merchant(id=new_id("mer"), zh="京东城", en="Jingdongcheng"),
    ]
    stores = [
        _store(1, merchants[0].id, "510107"),
        _store(2, merchants[0].id, "510107"),
        _store(3, merchants[1].id, "110101"),
    ]
    await places.enrol(db, regions=regions, merchants=merchants, stores=stores, now=now)
    return [
        Till(
            store_id=store.id,
            merchant_id=store.merchant_id,
            region_code=store.region_code,
            operator_id=f"opr_{number}",
        )
        for number, store in enumerate(stores, 1)
    ]


def _product(issuer: Issuer, brand: Brand, code_format: CodeFormat, **given) -> Product:
    return Product(
        **{
            "id": new_id("vpr"),
            "issuer_id": issuer.id,
            "brand_id": brand.id,
            "category": "supermarket",
            "zh": "蓉家福购物卡",
            "en": "Rongjiafu shopping card",
            "legal_class": LegalClass.SINGLE_PURPOSE_BEARER,
            "multi_draw": True,
            "face_values_fen": (100_00,),
            "code_format": code_format,
            "fee_bps": 900,
            "validity": Validity(days_from_issue=1095),
            "region_codes": ("510000",),
            **given,
        }
    )


async def open_trade(db: Db, *, now: datetime) -> Trade:
    """Enrol it all."""
    till, next_door, far_away = await _places(db, now)
    own = Issuer(
        id=new_id("iss"),
        zh="蓉家福商业",
        en="Rongjiafu Retail",
        connector=catalogue.OWN_REGISTRY,
        capabilities=frozenset(Capability),
    )
    outside = Issuer(
        id=new_id("iss"),
        zh="锦里礼享",
        en="Jinli Gifts",
        connector="sandbox",
        capabilities=frozenset(Capability),
        base_url_key="issuer_url",
    )
    brand = Brand(id=new_id("brd"), zh="蓉家福", en="Rongjiafu")
    other = CodeFormat(prefix="TK", alphabet=OWN.alphabet, body_length=14, check=OWN.check)
    local = CodeFormat(prefix="LO", alphabet=OWN.alphabet, body_length=14, check=OWN.check)
    old = CodeFormat(prefix="RT", alphabet=OWN.alphabet, body_length=14, check=OWN.check)
    products = {
        "card": _product(own, brand, OWN),
        "ticket": _product(own, brand, other, multi_draw=False),
        "foreign": _product(outside, brand, FOREIGN, region_codes=()),
        "local": _product(own, brand, local, store_ids=(till.store_id,)),
        "retired": _product(own, brand, old, status=catalogue.ProductStatus.RETIRED),
    }
    await catalogue.enrol(
        db, issuers=[own, outside], brands=[brand], products=list(products.values()), now=now
    )
    return Trade(
        catalogue=await catalogue.load_catalogue(db),
        till=till,
        next_door=next_door,
        far_away=far_away,
        **products,
    )


async def issue(
    db: Db,
    keyring: Keyring,
    product: Product,
    *,
    now: datetime,
    face_fen: int = 100_00,
    days: int = 365,
    holder_id: str | None = None,
    own_issue: bool = True,
) -> tuple[str, vouchers.NewVoucher]:
    """A voucher that somebody holds, and its code."""
    code = catalogue.make_code(product.code_format, random.SystemRandom())
    voucher_id = new_id("vch")
    sealed = vouchers.seal_code(keyring, voucher_id=voucher_id, issuer_id=product.issuer_id, code=code)
    voucher = vouchers.NewVoucher(
        id=voucher_id,
        product_id=product.id,
        issuer_id=product.issuer_id,
        own_issue=own_issue,
        face_fen=face_fen,
        verified_fen=face_fen,
        expires_at=now + timedelta(days=days),
        fingerprint=sealed.fingerprint,
        tail=sealed.tail,
        key_version=sealed.key_version,
        box=sealed.box,
        holder_id=holder_id,
    )
    await vouchers.enrol(db, [voucher], now=now)
    return code, voucher


def show(code: str, amount_fen: int | None = None, till_reference: str | None = None) -> Presented:
    """A code shown in a request of its own."""
    return Presented(
        code=code, amount_fen=amount_fen, request_key=f"key-{next(_keys)}", till_reference=till_reference
    )


async def spend(
    db: Db,
    keyring: Keyring,
    trade: Trade,
    code: str,
    amount_fen: int | None = None,
    *,
    now: datetime,
    till: Till | None = None,
    till_reference: str | None = None,
) -> Redemption:
    """Spend it at the first till, unless another is given."""
    shown = show(code, amount_fen, till_reference)
    return await redemption.redeem(db, keyring, trade.catalogue, shown, till or trade.till, now=now)


async def balance(db: Db, voucher_id: str) -> tuple[int, int, int]:
    """What is available, set aside and spent of a voucher."""
    found = (await vouchers.find_vouchers(db, [voucher_id]))[voucher_id]
    return found.available_fen, found.authorised_fen, found.captured_fen
