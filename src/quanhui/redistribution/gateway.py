"""What redistribution asks of the payment institution 支付机构: to collect from buyers and to give back.

Settlement speaks to the institution; neighbours do not import each other, so here stands only what is
needed of it, and `story` passes it in. Orders travel as plain structs of these fields.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

SUCCEEDED = "succeeded"
CLOSED = "closed"
NOT_FOUND = "not_found"
UNKNOWN = "unknown"


class PaymentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Collect from a buyer, who may pay until `expires_at`."""

    out_no: str
    amount_fen: int
    description: str
    expires_at: datetime


class RefundOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Give back what was paid under `payment_out_no`, or a part; `out_no` is the refund's own."""

    out_no: str
    payment_out_no: str
    amount_fen: int
    reason: str


class Report(Protocol):
    """How a payment or refund stands, in the words above; other words mean that it is under way."""

    @property
    def out_no(self) -> str:
        """Our number."""
        ...

    @property
    def state(self) -> str:
        """Where it stands."""
        ...

    @property
    def institution_no(self) -> str | None:
        """The institution's number."""
        ...

    @property
    def amount_fen(self) -> int | None:
        """How much it is about, where the institution tells."""
        ...


class PaymentInstitution(Protocol):
    """One report for each order, in the order asked; what could not be had is a report that says unknown.

    Orders are `PaymentOrder` and `RefundOrder`, or any struct with the same fields. Sending the same order
    again is safe.
    """

    async def open_payments(self, orders: Sequence[Any], *, now: datetime) -> Sequence[Report]:
        """Ask buyers to pay."""
        ...

    async def query_payments(self, out_nos: Sequence[str], *, now: datetime) -> Sequence[Report]:
        """How payments stand."""
        ...

    async def close_payments(self, out_nos: Sequence[str], *, now: datetime) -> Sequence[Report]:
        """Close payments that nobody has made; the reports say whether that came in time."""
        ...

    async def refund(self, orders: Sequence[Any], *, now: datetime) -> Sequence[Report]:
        """Give money back."""
        ...
