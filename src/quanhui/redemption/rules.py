"""What a redemption is, how long it may hang, and why a code is refused. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.base.states import machine

AUTHORISED_FOR: Final = timedelta(minutes=15)
"""An amount set aside and not captured within this time is free again."""
ASK_AGAIN_AFTER: Final = timedelta(seconds=30)
"""How long after the last time a silent issuer is asked again, under the same reference."""

REFUSED_WITHIN: Final = timedelta(minutes=10)
MOST_REFUSED_OPERATOR: Final = 10
MOST_REFUSED_STORE: Final = 60
"""Refused codes in `REFUSED_WITHIN` after which an operator, or a whole store, has to wait."""


class State(StrEnum):
    """Where a redemption stands 核销状态. It begins authorised: there is nothing to keep of a mere intent."""

    AUTHORISED = "authorised"
    CAPTURED = "captured"
    SETTLED = "settled"
    VOIDED = "voided"
    LAPSED = "lapsed"
    REVERSED = "reversed"


class ReversalState(StrEnum):
    """Where a reversal stands 冲正状态. `asked`: an outside issuer has to agree first."""

    ASKED = "asked"
    DONE = "done"
    REFUSED = "refused"


REDEMPTION = machine(
    "redemption",
    State,
    {
        State.AUTHORISED: [State.CAPTURED, State.VOIDED, State.LAPSED],
        State.CAPTURED: [State.SETTLED, State.REVERSED],
        State.SETTLED: [State.REVERSED],
    },
)
REVERSAL = machine(
    "reversal", ReversalState, {ReversalState.ASKED: [ReversalState.DONE, ReversalState.REFUSED]}
)
MACHINES = (REDEMPTION, REVERSAL)


class Reason(StrEnum):
    """Why a code was refused. The public never sees which (invariant 16)."""

    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"
    DEAD_CODE = "dead_code"
    NOT_HELD = "not_held"
    NOT_CLEAR = "not_clear"
    EXPIRED = "expired"
    SPENT = "spent"
    OUT_OF_SCOPE = "out_of_scope"
    TAKEN_MEANWHILE = "taken_meanwhile"


class Till(msgspec.Struct, frozen=True, kw_only=True):
    """Where a voucher is shown, and to whom."""

    store_id: str
    merchant_id: str
    region_code: str
    operator_id: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A code that was not accepted. `reason` is a word of `Reason`, or the issuer's own."""

    reason: str
    fingerprint: bytes | None
    store_id: str
    operator_id: str


class Redemption(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of one voucher spent in one store 核销. Money in fen.

    `awaits_issuer`: an outside issuer was asked and what it did is not known yet. `refusal` says, inside, why
    it was voided.
    """

    id: str
    voucher_id: str
    product_id: str
    issuer_id: str
    own_issue: bool
    holder_id: str | None
    store_id: str
    merchant_id: str
    operator_id: str
    request_key: str
    till_reference: str | None
    state: State
    authorised_fen: int
    captured_fen: int = 0
    reversed_fen: int = 0
    awaits_issuer: bool = False
    asked_at: datetime | None = None
    refusal: str | None = None
    expires_at: datetime
    created_at: datetime
    captured_at: datetime | None = None
    settled_at: datetime | None = None

    @property
    def reversible_fen(self) -> int:
        """What can still be taken back. Once the merchant was paid, its next statement bears it."""
        spent = self.state in (State.CAPTURED, State.SETTLED)
        return self.captured_fen - self.reversed_fen if spent else 0


class Reversal(msgspec.Struct, frozen=True, kw_only=True):
    """A redemption taken back, whole or in part 冲正."""

    id: str
    redemption_id: str
    amount_fen: int
    reason: str
    operator_id: str
    state: ReversalState
    refusal: str | None = None
    created_at: datetime
    done_at: datetime | None = None
