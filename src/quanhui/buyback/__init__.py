"""Buyback 回收: from the code that a seller shows to a voucher that is ours.

`sell_vouchers` takes in a set of up to 100 codes: they are read (`read_codes`), outside ones verified with
their issuers (`ask_issuers`, outside any transaction), looked up in the registry, screened, judged for risk,
priced, and answered with one immutable quote for all lines that hold. The price depends on the vouchers
and the market only.

`accept_quotes` claims every voucher by a unique index. Of our own issue: title, new code, ledger and evidence
follow in the same transaction. Of an outside issuer: `lock_at_issuers` first, then title, then
`rekey_at_issuers`; the payout waits. Either way the fact `buyback.secured` tells settlement to pay and
redistribution to take the vouchers into stock.

Rejections keep their reasons inside, and the seller may appeal; a person then decides.
"""

from quanhui.buyback.acceptance import (
    ACCEPTED,
    CANCELLED,
    SECURED,
    TITLE_TRANSFERRED,
    Acceptance,
    PayoutChoice,
    accept_quotes,
    mark_returned,
    mark_settled,
)
from quanhui.buyback.counter import Counter
from quanhui.buyback.intake import ask_issuers, read_codes
from quanhui.buyback.offer import Offered, Submission, resolve_review, sell_vouchers
from quanhui.buyback.rules import (
    LINES_MAX,
    Item,
    Line,
    Order,
    OrderState,
    Quote,
    QuoteState,
    ReadCode,
    Refusal,
)
from quanhui.buyback.store import close_settled, expire_quotes, find_orders, list_orders, lock_order
from quanhui.buyback.terms import Terms, TermsSource

__all__ = [
    "ACCEPTED", "CANCELLED", "LINES_MAX", "SECURED", "TITLE_TRANSFERRED", "Acceptance", "Counter", "Item",
    "Line", "Offered", "Order", "OrderState", "PayoutChoice", "Quote", "QuoteState", "ReadCode", "Refusal",
    "Submission",
    "Terms", "TermsSource", "accept_quotes", "ask_issuers", "close_settled", "expire_quotes", "find_orders",
    "list_orders", "lock_order", "mark_returned", "mark_settled", "read_codes", "resolve_review",
    "sell_vouchers",
]  # fmt: skip
