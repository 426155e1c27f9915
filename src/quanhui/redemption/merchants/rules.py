"""What a statement is, and how it and what belongs to it move. What a merchant owes is negative."""

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.base.states import machine

SILENCE_AGREES_AFTER: Final = timedelta(days=3)
"""How long a merchant has to dispute before its statement counts as confirmed."""
LATE_FOR: Final = timedelta(days=8)
"""How far back a run looks for what an earlier one could not see yet."""
MOST_DAYS_A_RUN: Final = 7


class StatementState(StrEnum):
    """Where a statement stands 结算单状态. `carried`: nothing to pay, brought forward to the next."""

    DRAWN = "drawn"
    CONFIRMED = "confirmed"
    DISPUTED = "disputed"
    CORRECTED = "corrected"
    DUE = "due"
    PAID = "paid"
    CARRIED = "carried"


class DisputeState(StrEnum):
    """Where the dispute of a line stands 异议状态."""

    OPEN = "open"
    ANSWERED = "answered"
    SETTLED = "settled"


class TransferState(StrEnum):
    """Where the record of a bank transfer stands 转账登记状态."""

    RECORDED = "recorded"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class ClaimKind(StrEnum):
    """For what else a merchant is owed, or owes."""

    GOODS = "goods"
    CAMPAIGN = "campaign"


class LineKind(StrEnum):
    """What a line of a statement is about."""

    REDEMPTION = "redemption"
    REVERSAL = "reversal"
    GOODS = "goods"
    CAMPAIGN = "campaign"
    CORRECTION = "correction"


STATEMENT = machine(
    "statement",
    StatementState,
    {
        StatementState.DRAWN: [StatementState.CONFIRMED, StatementState.DISPUTED],
        StatementState.DISPUTED: [StatementState.CONFIRMED, StatementState.CORRECTED],
        StatementState.CONFIRMED: [StatementState.DUE, StatementState.CARRIED],
        StatementState.CORRECTED: [StatementState.DUE, StatementState.CARRIED],
        StatementState.DUE: [StatementState.PAID],
    },
)
DISPUTE = machine(
    "statement_dispute",
    DisputeState,
    {
        DisputeState.OPEN: [DisputeState.ANSWERED],
        DisputeState.ANSWERED: [DisputeState.OPEN, DisputeState.SETTLED],
    },
)
TRANSFER = machine(
    "merchant_transfer",
    TransferState,
    {TransferState.RECORDED: [TransferState.CONFIRMED, TransferState.REFUSED]},
)
MACHINES = (STATEMENT, DISPUTE, TRANSFER)


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """The fee of a merchant from a Shanghai day on; `valid_to` is the first day it no longer holds."""

    id: str
    merchant_id: str
    fee_bps: int
    valid_from: date
    valid_to: date | None
    created_by: str
    created_at: datetime


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a merchant is owed, or owes if negative; `subject` is what its postings are about."""

    subject: str
    merchant_id: str
    kind: ClaimKind
    amount_fen: int
    note: str | None = None
    created_by: str | None = None
    happened_at: datetime


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A merchant's statement for a Shanghai day 结算单. gross = carried + lines, net = gross − fee."""

    id: str
    merchant_id: str
    day: date
    state: StatementState
    carried_gross_fen: int
    carried_fee_fen: int
    lines: int
    lines_gross_fen: int
    lines_fee_fen: int
    gross_fen: int
    fee_fen: int
    net_fen: int
    carried_to: str | None
    drawn_at: datetime
    confirmed_at: datetime | None
    confirmed_by: str | None
    due_at: datetime | None
    paid_at: datetime | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a statement. `subject` finds its postings in the ledger."""

    id: int
    kind: LineKind
    subject: str
    redemption_id: str | None
    store_id: str | None
    amount_fen: int
    fee_bps: int
    fee_fen: int
    happened_at: datetime


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A line that the merchant does not accept, and the answer. `correction_fen` 0: the line is right."""

    id: str
    statement_id: str
    line_id: int
    state: DisputeState
    reason: str
    raised_by: str
    raised_at: datetime
    correction_fen: int | None
    answer: str | None
    answered_by: str | None
    answered_at: datetime | None
    settled_by: str | None
    settled_at: datetime | None


class BankTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer to a merchant as the bank knows it: one person records it, another confirms it."""

    id: str
    statement_id: str
    institution: str
    reference: str
    amount_fen: int
    state: TransferState
    recorded_by: str
    recorded_at: datetime
    checked_by: str | None
    checked_at: datetime | None
    note: str | None
