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

A transfer is sent through a *channel* 出款通道, chosen just before the call: the cheapest that may pay such
an account and amount, has room for the day, and answers. One that falls silent is rested and then tried with
a single transfer; a person can stop one at once. While none is open, transfers wait and go by themselves. A
transfer stays where it was sent: only the next one, after a definite failure, may go elsewhere.

What goes out in a day is limited, for the platform and for one person; the rest waits for the next day, or
for a person. A large payout is approved by someone who did not change it, a very large one by two. These
limits are data.

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
    release_capped,
    retry_failed,
    retry_payouts,
)
from quanhui.settlement.cancelling import cancel_payouts
from quanhui.settlement.channels.alipay import AlipayTransfers
from quanhui.settlement.channels.wechat import WechatTransfers
from quanhui.settlement.errors import (
    CallbackRefused,
    OwnPayout,
    PayoutBlocked,
    PayoutMoved,
)
from quanhui.settlement.gateway import (
    BillKind,
    BillLine,
    CallbackEvents,
    Collector,
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
from quanhui.settlement.routing import Channel, Standing, Wait
from quanhui.settlement.rules import (
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
from quanhui.settlement.switches import start_channels, stop_channels, wake_waiting
from quanhui.settlement.tasks import Channels, forget_notifications, query_unknown, send_transfers

__all__ = [
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
    "AlipayTransfers",
    "Attempt",
    "AttemptState",
    "BillKind",
    "BillLine",
    "CallbackEvents",
    "CallbackRefused",
    "CaseState",
    "Channel",
    "Channels",
    "Class",
    "Collector",
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
    "Standing",
    "State",
    "TimelineEntry",
    "TransferOrder",
    "TransferReport",
    "TransferState",
    "Wait",
    "WechatTransfers",
    "alarm_overdue",
    "approve_cases",
    "approve_payouts",
    "cancel_payouts",
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
    "release_capped",
    "retry_failed",
    "retry_payouts",
    "run_day",
    "send_transfers",
    "start_channels",
    "stop_channels",
    "stop_payouts",
    "take_events",
    "timeline",
    "wake_waiting",
    "watch_books",
]
