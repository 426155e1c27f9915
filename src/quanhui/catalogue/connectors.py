"""What the platform asks of an issuer 发行方, whoever the issuer is: our own registry or an outside party.

Every method takes a set and answers it in the same order, one outcome a request. A request that changes
something carries a `reference`: the same reference always gets the same outcome, so a caller who lost
the answer may ask again. An issuer that does not answer raises `quanhui.base.http.NoAnswer`, and then
whether it acted is unknown: repeat under the same reference, never under a new one.

Codes are bearer secrets: no type here shows one when printed.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from quanhui.catalogue.codes import WithoutCodes


class BalanceStatus(StrEnum):
    """What an issuer says of a code."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    LOCKED = "locked"
    SPENT = "spent"
    EXPIRED = "expired"
    VOID = "void"


class IssuerRefusal(StrEnum):
    """Why an issuer did not do what it was asked. Issuers may have further words of their own."""

    UNKNOWN_CODE = "unknown_code"
    LOCKED_BY_OTHER = "locked_by_other"
    NOT_LOCKED = "not_locked"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    WHOLE_VALUE_ONLY = "whole_value_only"
    EXPIRED = "expired"
    VOID = "void"
    UNKNOWN_REFERENCE = "unknown_reference"
    REFERENCE_REUSED = "reference_reused"
    NOT_SUPPORTED = "not_supported"


class BalanceCheck(WithoutCodes, frozen=True, kw_only=True):
    """余额核验: what a code is worth by the issuer's books. Money and expiry are None for unknown codes.

    `product_hint` is the issuer's own name for the product, where it tells.
    """

    status: BalanceStatus
    face_fen: int | None = None
    balance_fen: int | None = None
    expires_at: datetime | None = None
    product_hint: str | None = None


class HoldRequest(WithoutCodes, frozen=True, kw_only=True):
    """Lock, unlock or re-key one code."""

    code: str
    reference: str


class HoldOutcome(WithoutCodes, frozen=True, kw_only=True):
    """Whether it is done; if not, why (a word of `IssuerRefusal` or the issuer's own)."""

    ok: bool
    reason: str | None = None


class RekeyOutcome(WithoutCodes, frozen=True, kw_only=True):
    """The code that replaces the old one, which is dead from now on."""

    ok: bool
    new_code: str | None = None
    reason: str | None = None


class RedeemRequest(WithoutCodes, frozen=True, kw_only=True):
    """Draw an amount from a code, or give that draw back (`reverse` under the reference of the draw)."""

    code: str
    amount_fen: int
    reference: str


class RedeemOutcome(WithoutCodes, frozen=True, kw_only=True):
    """The balance after the draw or its reversal; None when refused."""

    ok: bool
    balance_fen: int | None = None
    reason: str | None = None


class ExtendRequest(WithoutCodes, frozen=True, kw_only=True):
    """Move the expiry of one code to a later instant."""

    code: str
    expires_at: datetime
    reference: str


class ExtendOutcome(WithoutCodes, frozen=True, kw_only=True):
    """The expiry that now holds; None when refused."""

    ok: bool
    expires_at: datetime | None = None
    reason: str | None = None


class IssuerConnector(Protocol):
    """One issuer, asked in sets. Capabilities that an issuer lacks answer `NOT_SUPPORTED`.

    All methods answer in the order asked and raise `NoAnswer` when the issuer does not reply. They
    call outside, so they run outside any database transaction.
    """

    async def verify(self, codes: Sequence[str], *, now: datetime) -> list[BalanceCheck]:
        """Tell what codes are worth; changes nothing."""
        ...

    async def lock(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[HoldOutcome]:
        """Keep anyone but us from drawing on codes."""
        ...

    async def unlock(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[HoldOutcome]:
        """Give back locks taken under the same references."""
        ...

    async def rekey(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[RekeyOutcome]:
        """Replace codes by new ones that the former holder does not know."""
        ...

    async def redeem(self, requests: Sequence[RedeemRequest], *, now: datetime) -> list[RedeemOutcome]:
        """Draw amounts, each at most once for its reference."""
        ...

    async def reverse(self, requests: Sequence[RedeemRequest], *, now: datetime) -> list[RedeemOutcome]:
        """Undo draws made under the same references, at most by what they drew."""
        ...

    async def extend(self, requests: Sequence[ExtendRequest], *, now: datetime) -> list[ExtendOutcome]:
        """Lengthen the validity of codes."""
        ...


class Connectors:
    """The connectors of outside issuers, by issuer id; `connect` opens one the first time it is asked for."""

    def __init__(self, connect: Callable[[str], IssuerConnector]) -> None:
        self._connect = connect
        self._open: dict[str, IssuerConnector] = {}

    def __getitem__(self, issuer_id: str) -> IssuerConnector:
        if issuer_id not in self._open:
            self._open[issuer_id] = self._connect(issuer_id)
        return self._open[issuer_id]
