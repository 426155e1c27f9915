"""What a listing and a purchase are, and what a voucher of our stock costs. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.base.clock import whole_days_until
from quanhui.base.money import Dealing, share_floor
from quanhui.base.states import machine

RESERVE_FOR: Final = timedelta(minutes=15)
GUARANTEE: Final = timedelta(days=7)
"""担保期: how long after the first reveal a buyer may complain."""
AFTERCARE: Final = timedelta(days=30)
"""How much longer staff may still open a dispute for a buyer; then the sale is closed."""
MOST_LISTINGS: Final = 50
MOST_RESERVED: Final = 50
"""Listings that one buyer may hold unpaid at a time, over all purchases: nobody empties the market unpaid."""
ANY_PRODUCT: Final = "*"


class ListingState(StrEnum):
    """Where a voucher stands on its way from our stock to a buyer 挂售状态.

    `revealed`: the buyer has seen the code and the guarantee runs. `guaranteed`: it ran out without a
    complaint. `closed`: nothing can come of the sale any more.
    """

    DRAFT = "draft"
    LISTED = "listed"
    DELISTED = "delisted"
    EXPIRED = "expired"
    RESERVED = "reserved"
    SOLD = "sold"
    REVEALED = "revealed"
    GUARANTEED = "guaranteed"
    CLOSED = "closed"
    DISPUTED = "disputed"
    REFUNDED = "refunded"
    UPHELD = "upheld"


class PurchaseState(StrEnum):
    """Where a purchase stands 购买状态. `refund_due`: money came that bought nothing."""

    PENDING_PAYMENT = "pending_payment"
    PAID = "paid"
    CLOSED = "closed"
    REFUND_DUE = "refund_due"
    REFUNDED = "refunded"


LISTING = machine(
    "listing",
    ListingState,
    {
        ListingState.DRAFT: [ListingState.LISTED, ListingState.EXPIRED],
        ListingState.LISTED: [ListingState.RESERVED, ListingState.DELISTED, ListingState.EXPIRED],
        ListingState.DELISTED: [ListingState.LISTED, ListingState.EXPIRED],
        ListingState.RESERVED: [ListingState.LISTED, ListingState.SOLD],
        # A buyer who never looks keeps the right to until the voucher expires, which closes the sale.
        ListingState.SOLD: [ListingState.REVEALED, ListingState.DISPUTED, ListingState.CLOSED],
        ListingState.REVEALED: [ListingState.GUARANTEED, ListingState.DISPUTED],
        ListingState.GUARANTEED: [ListingState.CLOSED, ListingState.DISPUTED],
        ListingState.DISPUTED: [ListingState.REFUNDED, ListingState.UPHELD],
        ListingState.UPHELD: [ListingState.CLOSED],
    },
)
# A closed purchase may still be paid: the payment was under way when the reservation lapsed.
PURCHASE = machine(
    "purchase",
    PurchaseState,
    {
        PurchaseState.PENDING_PAYMENT: [PurchaseState.PAID, PurchaseState.CLOSED, PurchaseState.REFUND_DUE],
        PurchaseState.CLOSED: [PurchaseState.PAID, PurchaseState.REFUND_DUE],
        PurchaseState.PAID: [PurchaseState.REFUNDED],
        PurchaseState.REFUND_DUE: [PurchaseState.REFUNDED],
    },
)
MACHINES = (LISTING, PURCHASE)

REVEALABLE: Final = (
    ListingState.SOLD,
    ListingState.REVEALED,
    ListingState.GUARANTEED,
    ListingState.UPHELD,
    ListingState.CLOSED,
)


class Reason(StrEnum):
    """Why a purchase ended without a sale."""

    LAPSED = "lapsed"
    CANCELLED = "cancelled"
    TAKEN_MEANWHILE = "taken_meanwhile"
    WRONG_AMOUNT = "wrong_amount"
    DISPUTE = "dispute"


class Decision(StrEnum):
    """What came of a dispute."""

    REFUNDED = "refunded"
    UPHELD = "upheld"


class StockedVoucher(msgspec.Struct, frozen=True, kw_only=True):
    """One voucher that buyback has secured. `cost_fen` is the gross price we owe for it."""

    voucher_id: str
    product_id: str
    cost_fen: int
    face_fen: int
    expires_at: datetime


class Delivery(msgspec.Struct, frozen=True):
    """The vouchers of one buyback order that came into our stock."""

    order_id: str
    vouchers: list[StockedVoucher]


class PriceStep(msgspec.Struct, frozen=True):
    """While at least `min_days` whole days remain, the price is `price_bps` of the available value."""

    product_id: str
    min_days: int
    price_bps: int


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One voucher of our stock 挂售. Money in fen; `purchase_id` holds or has bought it."""

    id: str
    voucher_id: str
    order_id: str
    product_id: str
    face_fen: int
    value_fen: int
    cost_fen: int
    price_fen: int | None
    expires_at: datetime
    state: ListingState
    purchase_id: str | None
    guarantee_until: datetime | None

    @property
    def price_cursor(self) -> str:
        """Where this listing stands in the order of price, then id."""
        return f"{self.price_fen}.{self.id}"


class Price(msgspec.Struct, frozen=True):
    """What a listing is to cost."""

    listing_id: str
    price_fen: int


class Purchase(msgspec.Struct, frozen=True, kw_only=True):
    """A set of listings bought together 购买. `payment_no` is the institution's number for the payment."""

    id: str
    buyer_id: str
    total_fen: int
    state: PurchaseState
    reason: str | None
    reserved_until: datetime
    payment_no: str | None
    closing_at: datetime | None
    received_fen: int | None
    paid_at: datetime | None
    created_at: datetime
    dealing: Dealing = Dealing.PRINCIPAL
    custodian_ref: str | None = None

    @property
    def out_no(self) -> str:
        """The number that the payment has at the institution."""
        return out_no_of(self.id)


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """What the institution says was paid under a number of ours."""

    out_no: str
    amount_fen: int


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Money to give back: for one listing, or (None) a whole payment that bought nothing."""

    id: str
    purchase_id: str
    listing_id: str | None
    amount_fen: int
    reason: str
    done_at: datetime | None


def out_no_of(some_id: str) -> str:
    """An id as institutions take numbers, letters and digits only: `pur_01h…` → `pur01h…`."""
    return some_id.replace("_", "")


def id_of(out_no: str, prefix: str) -> str:
    """The id behind a number that `out_no_of` made."""
    return f"{prefix}_{out_no.removeprefix(prefix)}"


def automatic_price_fen(listing: Listing, steps: Sequence[PriceStep], *, now: datetime) -> int | None:
    """The price of a listing by the table, or None when no step reaches so near to expiry.

    The share of the available value is rounded down, and the value caps it; the cost is the least it may be
    unless the value is below the cost. It depends on the voucher alone, never on who asks (invariant 10).
    """
    days_left = whole_days_until(listing.expires_at, now)
    own = [step for step in steps if step.product_id == listing.product_id]
    usable = [
        step
        for step in own or [step for step in steps if step.product_id == ANY_PRODUCT]
        if step.min_days <= days_left
    ]
    if not usable or listing.value_fen == 0:
        return None
    step = max(usable, key=lambda step: step.min_days)
    return min(listing.value_fen, max(listing.cost_fen, share_floor(listing.value_fen, step.price_bps)))
