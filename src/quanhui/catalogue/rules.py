"""Issuers, brands, categories and voucher products: what each is. Pure."""

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.base.clock import end_of_local_day, local_day
from quanhui.catalogue.codes import CodeFormat

OWN_REGISTRY: Final = "registry"
"""The connector of issuers whose vouchers live in our own registry."""

NEVER_EXPIRES: Final = end_of_local_day(date(2999, 12, 31))
"""Stands for no expiry, so that every voucher has an instant to compare with."""


class Capability(StrEnum):
    """What an issuer can do for a voucher of its own."""

    VERIFY = "verify"
    LOCK = "lock"
    REDEEM = "redeem"
    REKEY = "rekey"
    EXTEND = "extend"


class LegalClass(StrEnum):
    """What a voucher is in law; policy packs decide by it."""

    MARKETING_COUPON = "marketing_coupon"
    GOODS_VOUCHER = "goods_voucher"
    SINGLE_PURPOSE_BEARER = "single_purpose_bearer"
    SINGLE_PURPOSE_REGISTERED = "single_purpose_registered"
    MULTI_PURPOSE = "multi_purpose"
    FOREIGN_BRAND_GIFT_CODE = "foreign_brand_gift_code"


class ProductStatus(StrEnum):
    """Whether a product is bought and sold now."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """A line of trade 品类, such as supermarket or liquor. A new one is a row."""

    code: str
    zh: str
    en: str


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Who issues vouchers 发行方, and how to reach them.

    `connector` names the kind of connection that `entry` opens; `base_url_key` names the setting that
    holds the address, None for our own registry.
    """

    id: str
    zh: str
    en: str
    connector: str
    capabilities: frozenset[Capability]
    base_url_key: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether our own registry is the issuer's book."""
        return self.connector == OWN_REGISTRY


class Brand(msgspec.Struct, frozen=True, kw_only=True):
    """The name on the voucher 品牌."""

    id: str
    zh: str
    en: str


class Validity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long vouchers hold: some days from issue, to a last day, or (neither) without end.

    Raises `ValueError` when both are given.
    """

    days_from_issue: int | None = None
    last_day: date | None = None

    def __post_init__(self) -> None:
        if self.days_from_issue is not None and self.last_day is not None:
            raise ValueError("validity is days from issue or a last day, not both")
        if self.days_from_issue is not None and self.days_from_issue < 1:
            raise ValueError("validity is at least one day")

    def expires_at(self, issued_at: datetime) -> datetime:
        """The end of the last local day of a voucher issued then."""
        if self.last_day is not None:
            return end_of_local_day(self.last_day)
        if self.days_from_issue is not None:
            return end_of_local_day(local_day(issued_at) + timedelta(days=self.days_from_issue))
        return NEVER_EXPIRES


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A voucher product 券种. Money in fen, the fee in basis points.

    `region_codes` are GB/T 2260 codes, empty for the whole country; `store_ids` narrow further, empty for
    every store there. `version` counts the changes of the row.
    """

    id: str
    issuer_id: str
    brand_id: str
    category: str
    zh: str
    en: str
    legal_class: LegalClass
    multi_draw: bool
    face_values_fen: tuple[int, ...]
    code_format: CodeFormat
    fee_bps: int
    validity: Validity
    region_codes: tuple[str, ...] = ()
    store_ids: tuple[str, ...] = ()
    status: ProductStatus = ProductStatus.ACTIVE
    version: int = 1

    def is_valid_at(self, *, region_code: str, store_id: str) -> bool:
        """Whether vouchers of this product can be spent in a store of a region."""
        if self.store_ids and store_id not in self.store_ids:
            return False
        return not self.region_codes or any(covers(wide, region_code) for wide in self.region_codes)


def covers(wide: str, region_code: str) -> bool:
    """Whether one GB/T 2260 region lies in another: 510000 and 510100 both cover 510107."""
    return region_code.startswith(wide.removesuffix("00").removesuffix("00"))
