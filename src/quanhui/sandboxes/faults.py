"""The fault table: what goes wrong, how often, for whom. Filled by `POST /control/faults`.

A fault is drawn with its probability, or strikes the next `next_n` times it could; `match` limits it to
what contains a text. The dice are seeded, so a run can be repeated. The table lives in memory: a
restarted party behaves well until told otherwise, but what a fault already set in motion (a return
that is still to come, a state still hidden) is in the party's file and goes on.
"""

import random
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta


class FaultKind(StrEnum):
    """What can go wrong. The first group meets requests, the rest what the parties do."""

    SLOW = "slow"
    """Nothing happens and nothing is answered for `delay_s`: a time-out before the effect."""
    LATE_EFFECT = "late_effect"
    """The request is carried out only after `delay_s`, when the caller has given up."""
    LOST_REPLY = "lost_reply"
    """The effect is done; no answer for `delay_s`."""
    ERROR_500_BEFORE = "error_500_before"
    ERROR_500_AFTER = "error_500_after"

    WRONG_BALANCE = "wrong_balance"
    """Issuer: a verified balance is nonsense; `variant` is negative, above_face or halved."""

    DUPLICATE_CALLBACK = "duplicate_callback"
    LATE_CALLBACK = "late_callback"
    REORDERED_CALLBACKS = "reordered_callbacks"
    """Events wait up to `delay_s` each, so that later ones overtake earlier ones."""
    FORGED_CALLBACK = "forged_callback"
    """When an instruction is taken, somebody else's callback claims that it succeeded."""
    REPLAYED_CALLBACK = "replayed_callback"
    """A delivered callback is sent once more, byte for byte, after `delay_s`."""

    UNKNOWN = "unknown"
    """The state of a transfer is answered as unknown until queried `times` times; no callback till then."""
    FAIL = "fail"
    """A transfer fails, with `reason`."""
    AWAITING_PAYEE = "awaiting_payee"
    """The payee must confirm: does so after `delay_s`, or, without one, only by the control API in 24 h."""
    SUCCESS_AFTER_CLOSE = "success_after_close"
    RETURN_AFTER_SUCCESS = "return_after_success"

    BILL_MISSING = "bill_missing"
    BILL_EXTRA = "bill_extra"
    BILL_OFF_BY_ONE = "bill_off_by_one"
    """A line of the bill is missing, stands for nothing that happened, or is one fen off."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the table. `delay_s` None means the kind's usual delay."""

    kind: FaultKind
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0
    next_n: Annotated[int, Meta(ge=1)] | None = None
    match: str = ""
    delay_s: Annotated[float, Meta(ge=0)] | None = None
    times: Annotated[int, Meta(ge=1)] = 1
    reason: str = "account_unusable"
    variant: str = ""


class FaultTable:
    """Draws faults. Several of a kind are tried in the order in which they were added."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._left: dict[FaultKind, list[tuple[Fault, int | None]]] = {}

    def add(self, fault: Fault) -> None:
        """Add a line."""
        self._left.setdefault(fault.kind, []).append((fault, fault.next_n))

    def clear(self) -> None:
        """Behave well from now on."""
        self._left.clear()

    def lines(self) -> list[Fault]:
        """What is still to strike."""
        return [fault for lines in self._left.values() for fault, _ in lines]

    def draw(self, kind: FaultKind, text: str) -> Fault | None:
        """The fault that strikes this thing now, if one does; `text` is what `match` looks into."""
        lines = self._left.get(kind)
        if not lines:
            return None
        for i, (fault, left) in enumerate(lines):
            if fault.match in text and self.random.random() < fault.probability:
                if left is not None:
                    lines[i : i + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None


def delay_of(fault: Fault, usual_s: float) -> float:
    """How long a fault takes."""
    return usual_s if fault.delay_s is None else fault.delay_s
