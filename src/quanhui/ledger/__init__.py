"""The ledger: who is owed what, and how it came to be. The only place where a balance changes.

A **transfer** moves fen from one account (debited) to another (credited); both legs are one row, so every
posting sums to zero. Transfers are posted in sets, all or none, each under a key that makes it happen once.
Nothing is edited or deleted: a mistake is taken back by `reverse`, at most once a transfer.

There are two **books**. The client book mirrors money that a licensed institution holds for others; the
platform book is our own. A transfer stays in one book, and an event that touches both passes through the two
clearing accounts, which therefore always cancel. The chart of accounts is data in `ledger.chart`; an account
opens itself when it is first used.

**Guarded** accounts (what a customer or a merchant is owed) are locked and never fall below their floor.
**Deferred** accounts (custody, fees, stock: those that every order touches) are not locked; their legs wait
in the transfers until `fold` adds them up. What is read here is exact either way.

Money may be set aside on a guarded account (`hold`): its owner still has it and cannot spend it, until it is
given back (`release`) or paid onwards (`capture`), whole or in parts.

`postings` holds the debit and credit lines of each event of the business; the other packages write

    await post(db, postings.payout_sent(payout.id, customer_id=..., amount_fen=...), now=now)

and never name an account themselves.
"""

from quanhui.ledger import postings as postings
from quanhui.ledger.actions import (
    accounts,
    balances,
    chart_at,
    fold,
    fold_lag,
    post,
    postings_of,
    reverse,
    statement,
    trial_balance,
)
from quanhui.ledger.errors import (
    HoldEnded,
    InsufficientBalance,
    InsufficientHold,
    LedgerBusy,
    PeriodClosed,
    TransferKeyConflict,
)
from quanhui.ledger.history import statement_over, trial_balance_at
from quanhui.ledger.holds import capture, hold, holds_astray, holds_on, release
from quanhui.ledger.periods import close_period, closings, reopen_period
from quanhui.ledger.postings import BoughtLine, SoldLine
from quanhui.ledger.rules import (
    Balance,
    Book,
    Capture,
    FoldLag,
    Hold,
    HoldAsked,
    HoldOutcome,
    HoldState,
    HoldStatus,
    Kind,
    Outcome,
    Period,
    PeriodLength,
    PeriodState,
    Posting,
    Status,
    Transfer,
    TrialBalance,
    TrialLine,
)

__all__ = [
    "Balance",
    "Book",
    "BoughtLine",
    "Capture",
    "FoldLag",
    "Hold",
    "HoldAsked",
    "HoldEnded",
    "HoldOutcome",
    "HoldState",
    "HoldStatus",
    "InsufficientBalance",
    "InsufficientHold",
    "Kind",
    "LedgerBusy",
    "Outcome",
    "Period",
    "PeriodClosed",
    "PeriodLength",
    "PeriodState",
    "Posting",
    "SoldLine",
    "Status",
    "Transfer",
    "TransferKeyConflict",
    "TrialBalance",
    "TrialLine",
    "accounts",
    "balances",
    "capture",
    "chart_at",
    "close_period",
    "closings",
    "fold",
    "fold_lag",
    "hold",
    "holds_astray",
    "holds_on",
    "post",
    "postings",
    "postings_of",
    "release",
    "reopen_period",
    "reverse",
    "statement",
    "statement_over",
    "trial_balance",
    "trial_balance_at",
]
