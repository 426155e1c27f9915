"""What a voucher is: three independent axes of state, and a balance that is never negative. Pure."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.base.states import machine

PLATFORM: Final = "platform"
"""The holder of record of a voucher that the platform has bought."""

TAIL_LENGTH: Final = 4


class Custody(StrEnum):
    """Who has the voucher 归属."""

    SELLER_HELD = "seller_held"
    CLAIMED = "claimed"
    PLATFORM_HELD = "platform_held"
    RESERVED = "reserved"
    ASSIGNED = "assigned"
    RETURNED = "returned"


class Value(StrEnum):
    """What is left on it 余额状态."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    PARTIAL = "partial"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    REACTIVATED = "reactivated"


class Integrity(StrEnum):
    """Whether it can be trusted 可信状态."""

    CLEAR = "clear"
    SUSPECT = "suspect"
    FROZEN = "frozen"
    VOID = "void"


CUSTODY = machine(
    "custody",
    Custody,
    {
        Custody.SELLER_HELD: [Custody.CLAIMED],
        Custody.ASSIGNED: [Custody.CLAIMED],
        Custody.RETURNED: [Custody.CLAIMED],
        Custody.CLAIMED: [Custody.PLATFORM_HELD, Custody.SELLER_HELD, Custody.ASSIGNED, Custody.RETURNED],
        Custody.PLATFORM_HELD: [Custody.RESERVED, Custody.RETURNED],
        Custody.RESERVED: [Custody.PLATFORM_HELD, Custody.ASSIGNED],
    },
)
VALUE = machine(
    "value",
    Value,
    {
        Value.UNKNOWN: [Value.ACTIVE, Value.PARTIAL, Value.EXHAUSTED, Value.EXPIRED],
        Value.ACTIVE: [Value.PARTIAL, Value.EXHAUSTED, Value.EXPIRED],
        Value.PARTIAL: [Value.ACTIVE, Value.EXHAUSTED, Value.EXPIRED],
        Value.EXHAUSTED: [Value.ACTIVE, Value.PARTIAL, Value.EXPIRED],
        Value.EXPIRED: [Value.REACTIVATED],
        Value.REACTIVATED: [Value.PARTIAL, Value.EXHAUSTED, Value.EXPIRED],
    },
)
INTEGRITY = machine(
    "integrity",
    Integrity,
    {
        Integrity.CLEAR: [Integrity.SUSPECT, Integrity.FROZEN, Integrity.VOID],
        Integrity.SUSPECT: [Integrity.CLEAR, Integrity.FROZEN, Integrity.VOID],
        Integrity.FROZEN: [Integrity.CLEAR, Integrity.VOID],
    },
)
MACHINES = (CUSTODY, VALUE, INTEGRITY)


class Voucher(msgspec.Struct, frozen=True, kw_only=True):
    """One voucher 券 as the registry knows it. Money in fen; `tail` ends its live code, for people."""

    id: str
    product_id: str
    issuer_id: str
    own_issue: bool
    face_fen: int
    verified_fen: int
    authorised_fen: int
    captured_fen: int
    verified_at: datetime
    expires_at: datetime
    custody: Custody
    value: Value
    integrity: Integrity
    holder_id: str | None
    tail: str

    @property
    def available_fen(self) -> int:
        """What can still be spent: verified less what is captured and what is set aside."""
        return self.verified_fen - self.captured_fen - self.authorised_fen

    def is_expired(self, now: datetime) -> bool:
        """Good until the end of the local day of expiry, compared on the server."""
        return now >= self.expires_at

    def may_be_offered_by(self, claimant_id: str) -> bool:
        """Only the holder of record may offer it; a bearer voucher without one, whoever shows the code."""
        return CUSTODY.may(self.custody, Custody.CLAIMED) and self.holder_id in (None, claimant_id)


class FoundCode(msgspec.Struct, frozen=True):
    """A code looked up by fingerprint: its voucher, and whether the code is still the live one."""

    fingerprint: bytes
    live: bool
    voucher: Voucher


class NewVoucher(msgspec.Struct, frozen=True, kw_only=True):
    """A voucher not yet in the registry, its code already sealed under its id."""

    id: str
    product_id: str
    issuer_id: str
    own_issue: bool
    face_fen: int
    verified_fen: int
    expires_at: datetime
    fingerprint: bytes
    tail: str
    key_version: int
    box: bytes
    holder_id: str | None = None


class NewCode(msgspec.Struct, frozen=True, kw_only=True):
    """The code that takes the place of a voucher's live one, already sealed."""

    voucher_id: str
    fingerprint: bytes
    tail: str
    key_version: int
    box: bytes


class Claim(msgspec.Struct, frozen=True):
    """One voucher that a claimant hands over in an order, by the fingerprint of the code they showed.

    `least_fen` is what must still be left on it.
    """

    voucher_id: str
    fingerprint: bytes
    order_id: str
    claimant_id: str
    least_fen: int = 0


class Spend(msgspec.Struct, frozen=True):
    """An amount, in fen, of one voucher."""

    voucher_id: str
    amount_fen: int
