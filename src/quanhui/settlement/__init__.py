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
from quanhui.settlement.channels.alipay import AlipayTransfers
from quanhui.settlement.channels.registry import Channels
from quanhui.settlement.channels.wechat import WechatTransfers
from quanhui.settlement.errors import CallbackRefused, OwnPayout, PayoutBlocked, PayoutMoved
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
    "CUSTODIAN",
    "PAYMENT_REPORTED",
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
    "Channels",
    "Collector",
    "EventKind",
    "Flag",
    "Hold",
    "Institution",
    "InstitutionEvent",
    "Method",
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
    "WechatTransfers",
    "approve_payouts",
    "clear_flags",
    "find_payouts",
    "forget_notifications",
    "hand_over_goods",
    "list_payouts",
    "open_payouts",
    "out_no_of",
    "query_unknown",
    "record_reports",
    "retry_failed",
    "retry_payouts",
    "send_transfers",
    "take_events",
    "timeline",
]
