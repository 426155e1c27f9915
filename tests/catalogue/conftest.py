import pytest

from quanhui.base.ids import new_id
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

OWN_FORMAT = CodeFormat(
    prefix="RJ", alphabet=OWN_ALPHABET, body_length=14, check=CheckAlgorithm.ISO7064_MOD37_36
)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(
        id=new_id("iss"),
        zh="蓉家福商业",
        en="Rongjiafu Retail",
        connector=OWN_REGISTRY,
        capabilities=frozenset(Capability),
    )


@pytest.fixture
def brand() -> Brand:
    return Brand(id=new_id("brd"), zh="蓉家福", en="Rongjiafu")


@pytest.fixture
def product(issuer: Issuer, brand: Brand) -> Product:
    return Product(
        id=new_id("vpr"),
        issuer_id=issuer.id,
        brand_id=brand.id,
        category="supermarket",
        zh="蓉家福购物卡",
        en="Rongjiafu shopping card",
        legal_class=LegalClass.SINGLE_PURPOSE_BEARER,
        multi_draw=True,
        face_values_fen=(10_000, 50_000),
        code_format=OWN_FORMAT,
        fee_bps=900,
        validity=Validity(days_from_issue=1095),
        region_codes=("510000",),
    )
