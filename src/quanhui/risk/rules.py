"""Whether a submission may go on, by rules that need no model. Pure.

A decision keeps its whole tree: every check that was made, what it saw, and what it led to, so that a
denial can be explained and appealed (invariant 17). Shadow rules are noted and never act.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """From harmless to worst; the worst of a tree decides."""

    ALLOW = "allow"
    HOLD = "hold"
    REVIEW = "review"
    REJECT = "reject"


SEVERITY = {outcome: severity for severity, outcome in enumerate(Outcome)}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A measure above its threshold has an outcome."""

    code: str
    measure: str
    threshold: int
    outcome: Outcome
    shadow: bool
    reason_zh: str
    reason_en: str


class RuleBook(msgspec.Struct, frozen=True):
    """All rules of one version."""

    rules: tuple[Rule, ...]
    version: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the reasoning: what was asked, seen and concluded; `line` if about one."""

    rule: str
    outcome: Outcome
    line: int | None = None
    seen: int | str | None = None
    threshold: int | None = None
    shadow: bool = False
    reason_zh: str = ""
    reason_en: str = ""


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What one submission adds to the counters of an account or a device."""

    key: str
    offers: int
    refusals: int
    amount_fen: int
    near_limit: int


class PayeeUse(msgspec.Struct, frozen=True, kw_only=True):
    """A seller wants to be paid for an order to an account."""

    order_id: str
    seller_id: str
    payee_id: str


class Tree(msgspec.Struct, frozen=True):
    """The outcome and every check that led to it."""

    outcome: Outcome
    checks: tuple[Check, ...]

    def deciding(self) -> tuple[Check, ...]:
        """The rules that brought the outcome about; none when everything is allowed."""
        if self.outcome is Outcome.ALLOW:
            return ()
        return tuple(
            check
            for check in self.checks
            if check.outcome is self.outcome and not check.shadow and check.line is None
        )


class KeptDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it stands on record, with the version of the rules that it was made by."""

    id: str
    tree: Tree
    rules: str
    at: datetime


def judge(book: RuleBook, measures: Mapping[str, int], line_checks: Sequence[Check]) -> Tree:
    """Apply every rule to the measures. Line checks ride along: they refuse their line, not the whole.

    The outcome is the worst of the rules that act; a measure that is absent counts as 0.
    """
    checks = [_apply(rule, measures.get(rule.measure, 0)) for rule in book.rules]
    acting = [check.outcome for check in checks if not check.shadow]
    outcome = max(acting, key=SEVERITY.__getitem__, default=Outcome.ALLOW)
    return Tree(outcome, (*checks, *line_checks))


def _apply(rule: Rule, seen: int) -> Check:
    fired = seen > rule.threshold
    return Check(
        rule=rule.code,
        outcome=rule.outcome if fired else Outcome.ALLOW,
        seen=seen,
        threshold=rule.threshold,
        shadow=rule.shadow,
        reason_zh=rule.reason_zh if fired else "",
        reason_en=rule.reason_en if fired else "",
    )
