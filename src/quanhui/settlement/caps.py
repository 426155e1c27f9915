"""What may go out in a day: for the platform, and for one person whatever their accounts. Pure.

A payout counts once, on the day it first goes out. What does not fit waits, held, for the next day or for a
person, who may let it go all the same; then it counts too.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from quanhui.base.clock import end_of_local_day, local_day
from quanhui.settlement.rules import Hold, Method, Payout

PLATFORM = "platform"


class Limits(msgspec.Struct, frozen=True):
    """Limits of payouts 出款限额, in fen; None: no limit."""

    one_approval_above_fen: int
    two_approvals_above_fen: int
    platform_day_fen: int | None
    payee_day_fen: int | None

    def approvals_for(self, amount_fen: int) -> int:
        """How many people approve such an amount."""
        return (amount_fen > self.one_approval_above_fen) + (amount_fen > self.two_approvals_above_fen)

    def scopes(self, payout: Payout) -> list[tuple[str, int, Hold]]:
        """What a payout counts against: the scope, its limit, and why it waits beyond that."""
        if payout.method is not Method.CASH or payout.attempts:
            return []
        limits = (
            (PLATFORM, self.platform_day_fen, Hold.PLATFORM_DAY_LIMIT),
            (f"payee:{payout.seller_id}", self.payee_day_fen, Hold.PAYEE_DAY_LIMIT),
        )
        return [(scope, limit, why) for scope, limit, why in limits if limit is not None]


class Allowance:
    """What may still go out today, under the lock of its counters."""

    def __init__(self, limits: Limits, used: dict[str, int]) -> None:
        self._limits = limits
        self._used = used
        self.counted: list[tuple[str, int]] = []

    def refuses(self, payout: Payout) -> Hold | None:
        """Why a payout has to wait; if None, it is counted."""
        for scope, limit, why in self._limits.scopes(payout):
            if self._used.get(scope, 0) + payout.amount_fen > limit:
                return why
        self.count(payout)
        return None

    def count(self, payout: Payout) -> None:
        """Count a payout that goes out, whether it fits or a person let it go."""
        for scope, _, _ in self._limits.scopes(payout):
            self._used[scope] = self._used.get(scope, 0) + payout.amount_fen
            self.counted.append((scope, payout.amount_fen))

    def never_fits(self, payout: Payout) -> bool:
        """Whether waiting is in vain: it is more than a whole day's limit."""
        return any(payout.amount_fen > limit for _, limit, _ in self._limits.scopes(payout))


def scopes_of(limits: Limits, payouts: Iterable[Payout]) -> list[str]:
    """The counters that these payouts touch, in the order in which they are locked."""
    return sorted({scope for payout in payouts for scope, _, _ in limits.scopes(payout)})


def next_day(now: datetime) -> datetime:
    """When the next Shanghai day begins."""
    return end_of_local_day(local_day(now))
