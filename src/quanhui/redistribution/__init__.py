"""Redistribution 二次分发: what we bought comes into stock, goes on the market, and finds its buyer.

Vouchers whose title is secure come in as drafts (`take_into_stock`). A table of prices by product and days
left puts them up for sale (`list_new_stock`); people price the rest (`list_vouchers`) and take down what
should not be sold (`delist`). What is frozen leaves the market (`withdraw`).

A buyer reserves a set of listings, all or nothing (`reserve`), and has a quarter of an hour to pay at the
institution, in money: vouchers and stored value cannot buy vouchers. `confirm_paid` sells, once, however
often it is told. A reservation that lapses is released only after the institution has closed its payment,
and a payment that comes later still buys or is given back: money and voucher are never both gone.

Only then, and only to the buyer, the code is shown (`reveal`), and the guarantee period 担保期 begins. Who
complains within it has the voucher frozen until someone decides: money back, or the sale upheld.
"""

from quanhui.redistribution.disputes import DISPUTE_DECIDED, DISPUTED, decide_dispute, open_dispute
from quanhui.redistribution.errors import (
    ListingTaken,
    NotCancellable,
    NotDisputable,
    NotInDispute,
    NotListable,
    NotRevealable,
    PriceAboveValue,
    TooManyReserved,
)
from quanhui.redistribution.gateway import PaymentInstitution, PaymentOrder, RefundOrder
from quanhui.redistribution.purchases import (
    CLOSE_WANTED,
    PAYMENT_MISMATCHED,
    PAYMENT_WANTED,
    PURCHASE_CLOSED,
    REFUND_WANTED,
    SOLD,
    cancel,
    confirm_paid,
    confirm_refunds,
    find_purchases,
    release,
    reserve,
    reveal,
    sweep_guarantees,
    sweep_reservations,
)
from quanhui.redistribution.rules import (
    AFTERCARE,
    GUARANTEE,
    MACHINES,
    RESERVE_FOR,
    Decision,
    Delivery,
    Listing,
    ListingState,
    Payment,
    Price,
    Purchase,
    PurchaseState,
    StockedVoucher,
)
from quanhui.redistribution.stock import (
    delist,
    find_listings,
    list_new_stock,
    list_vouchers,
    sweep_expired,
    take_into_stock,
    withdraw,
)

__all__ = [
    "AFTERCARE",
    "CLOSE_WANTED",
    "DISPUTED",
    "DISPUTE_DECIDED",
    "GUARANTEE",
    "MACHINES",
    "PAYMENT_MISMATCHED",
    "PAYMENT_WANTED",
    "PURCHASE_CLOSED",
    "REFUND_WANTED",
    "RESERVE_FOR",
    "SOLD",
    "Decision",
    "Delivery",
    "Listing",
    "ListingState",
    "ListingTaken",
    "NotCancellable",
    "NotDisputable",
    "NotInDispute",
    "NotListable",
    "NotRevealable",
    "Payment",
    "PaymentInstitution",
    "PaymentOrder",
    "Price",
    "PriceAboveValue",
    "Purchase",
    "PurchaseState",
    "RefundOrder",
    "StockedVoucher",
    "TooManyReserved",
    "cancel",
    "confirm_paid",
    "confirm_refunds",
    "decide_dispute",
    "delist",
    "find_listings",
    "find_purchases",
    "list_new_stock",
    "list_vouchers",
    "open_dispute",
    "release",
    "reserve",
    "reveal",
    "sweep_expired",
    "sweep_guarantees",
    "sweep_reservations",
    "take_into_stock",
    "withdraw",
]
