"""Settlement 资金结算: paying sellers through a licensed institution, at most once.

A *payout* 出款 is what a seller gets for one order: cash, stored value, or goods at the desk. Stored value is
theirs at once; goods wait for a clerk; cash becomes a *transfer* at the institution, under a number that is
fixed before anyone calls. In one transaction the money moves from what we owe the seller to what is on its
way, the transfer is written down, and the fact that it is due goes to the outbox.

The sender marks a transfer as being called, commits, calls, and records the answer. Whatever goes wrong in
between, nobody sends it again: its outcome is unknown until the institution has been asked. Only when the
institution has never heard of the number is the same number sent once more; only after a definite failure is
there a new one. Reports and callbacks may come twice, late, or in any order, and lead to the same end; what
contradicts itself raises a flag, and nothing moves until a person has looked.

What waits for a person: payouts held for a check, failures that time does not cure, and flags.

Every day the institution's bill is compared with the books and our records, see `reconciliation`.
"""

from quanhui.settlement.actions import (
    PAYOUT_FAILED,
    PAYOUT_HELD,
    PAYOUT_SUCCEEDED,
    TRANSFER_DUE,
    approve_payouts,
    clear_flags,
    hand_over_goods,
    open_payouts,
    retry_failed,
    retry_payouts,
)
from quanhui.settlement.errors import CallbackRefused, OwnPayout, PayoutBlocked, PayoutMoved
from quanhui.settlement.gateway import (
    BillKind,
    BillLine,
    CallbackEvents,
    EventKind,
    Institution,
    InstitutionEvent,
    PaymentOrder,
    PaymentReport,
    PaymentState,
    RefundOrder,
    SandboxInstitution,
    TransferOrder,
    TransferReport,
    TransferState,
)
from quanhui.settlement.reconciliation.actions import (
    CASE_OPENED,
    CASE_OVERDUE,
    PAYOUTS_STOPPED,
    alarm_overdue,
    approve as approve_cases,
    compare_books,
    lift_stop,
    propose as propose_cases,
    reject as reject_cases,
    stop_payouts,
    watch_books,
)
from quanhui.settlement.reconciliation.rules import CaseState, Class, Outcome
from quanhui.settlement.reconciliation.store import find_cases, list_cases
from quanhui.settlement.reconciliation.tasks import fetch_bills, run_day
from quanhui.settlement.reports import (
    PAYMENT_REPORTED,
    PAYOUT_FLAGGED,
    PAYOUT_RETURNED,
    REFUND_REPORTED,
    TRANSFER_UNRECOGNISED,
    record_reports,
    take_events,
)
from quanhui.settlement.rules import (
    APPROVAL_LIMIT_FEN,
    CUSTODIAN,
    Attempt,
    AttemptState,
    Flag,
    Hold,
    Method,
    Payout,
    State,
    TimelineEntry,
    out_no_of,
)
from quanhui.settlement.store import find_payouts, list_payouts, timeline
from quanhui.settlement.tasks import forget_notifications, query_unknown, send_transfers

__all__ = [
    "APPROVAL_LIMIT_FEN",
    "CASE_OPENED",
    "CASE_OVERDUE",
    "CUSTODIAN",
    "PAYMENT_REPORTED",
    "PAYOUTS_STOPPED",
    "PAYOUT_FAILED",
    "PAYOUT_FLAGGED",
    "PAYOUT_HELD",
    "PAYOUT_RETURNED",
    "PAYOUT_SUCCEEDED",
    "REFUND_REPORTED",
    "TRANSFER_DUE",
    "TRANSFER_UNRECOGNISED",
    "Attempt",
    "AttemptState",
    "BillKind",
    "BillLine",
    "CallbackEvents",
    "CallbackRefused",
    "CaseState",
    "Class",
    "EventKind",
    "Flag",
    "Hold",
    "Institution",
    "InstitutionEvent",
    "Method",
    "Outcome",
    "OwnPayout",
    "PaymentOrder",
    "PaymentReport",
    "PaymentState",
    "Payout",
    "PayoutBlocked",
    "PayoutMoved",
    "RefundOrder",
    "SandboxInstitution",
    "State",
    "TimelineEntry",
    "TransferOrder",
    "TransferReport",
    "TransferState",
    "alarm_overdue",
    "approve_cases",
    "approve_payouts",
    "clear_flags",
    "compare_books",
    "fetch_bills",
    "find_cases",
    "find_payouts",
    "forget_notifications",
    "hand_over_goods",
    "lift_stop",
    "list_cases",
    "list_payouts",
    "open_payouts",
    "out_no_of",
    "propose_cases",
    "query_unknown",
    "record_reports",
    "reject_cases",
    "retry_failed",
    "retry_payouts",
    "run_day",
    "send_transfers",
    "stop_payouts",
    "take_events",
    "timeline",
    "watch_books",
]
