"""What vouchers there are: issuers 发行方, brands 品牌, categories 品类 and voucher products 券种.

An issuer stands behind its vouchers and is reached through a connector; our own registry is one of
them. A product says everything about a kind of voucher: what it is in law, which faces it comes in, how its
codes are built, where and how long it is good, what fee its sellers pay. All of it is data: a new
product, category or issuer is a row, never code.

Codes are read as people write them (`codes.py`): full width, spaced, in small letters, with O for 0;
check characters notice slips. A text is matched to products by prefix and length in one look-up.

The whole catalogue fits in memory. `CatalogueCache` keeps one picture of it for the process and
looks once a second whether the number that counts its changes has moved, so the hot paths ask nothing.

`connectors.py` says what the platform asks of every issuer, in sets, with references that make a
repeat safe.
"""

from quanhui.catalogue.actions import enrol, set_product_status
from quanhui.catalogue.codes import (
    OWN_ALPHABET,
    Candidate,
    CheckAlgorithm,
    CodeFormat,
    Recogniser,
    WithoutCodes,
    check_ok,
    make_code,
    normalise,
)
from quanhui.catalogue.connectors import (
    BalanceCheck,
    BalanceStatus,
    Connectors,
    ExtendOutcome,
    ExtendRequest,
    HoldOutcome,
    HoldRequest,
    IssuerConnector,
    IssuerRefusal,
    RedeemOutcome,
    RedeemRequest,
    RekeyOutcome,
)
from quanhui.catalogue.errors import CategoryExists, UnknownReference
from quanhui.catalogue.rules import (
    NEVER_EXPIRES,
    OWN_REGISTRY,
    Brand,
    Capability,
    Category,
    Issuer,
    LegalClass,
    Product,
    ProductStatus,
    Validity,
    covers,
)
from quanhui.catalogue.snapshot import Catalogue, CatalogueCache, load_catalogue

__all__ = [
    "NEVER_EXPIRES",
    "OWN_ALPHABET",
    "OWN_REGISTRY",
    "BalanceCheck",
    "BalanceStatus",
    "Brand",
    "Candidate",
    "Capability",
    "Catalogue",
    "CatalogueCache",
    "Category",
    "CategoryExists",
    "CheckAlgorithm",
    "CodeFormat",
    "Connectors",
    "ExtendOutcome",
    "ExtendRequest",
    "HoldOutcome",
    "HoldRequest",
    "Issuer",
    "IssuerConnector",
    "IssuerRefusal",
    "LegalClass",
    "Product",
    "ProductStatus",
    "Recogniser",
    "RedeemOutcome",
    "RedeemRequest",
    "RekeyOutcome",
    "UnknownReference",
    "Validity",
    "WithoutCodes",
    "check_ok",
    "covers",
    "enrol",
    "load_catalogue",
    "make_code",
    "normalise",
    "set_product_status",
]
