"""Verbs of risk: they count what happens and answer; they move nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from quanhui.base.db import Db, Row
from quanhui.base.ids import new_id
from quanhui.risk import store
from quanhui.risk.rules import Activity, Check, PayeeUse, RuleBook, Tree, judge

NEAR_LIMITS_FEN = (500_000, 1_000_000, 5_000_000)
NEAR_SHARE_BPS = 9_500
"""Amounts from 95% of a reporting limit up to just under it are a sign of structuring 拆分."""
MEASURES = ("refusals_1h", "offers_24h", "amount_fen_24h", "near_limit_24h")
"""What is counted of an account and of a device."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What risk needs to know of a submission: what is offered, in fen, and how many lines fell."""

    order_id: str
    seller_id: str
    device_id: str | None
    offered: int
    refused: int
    amount_fen: int
    line_checks: tuple[Check, ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """A decision on record: its id and its tree."""

    id: str
    tree: Tree


async def assess(
    db: Db, book: RuleBook, submissions: Sequence[Submission], *, now: datetime
) -> list[Decision]:
    """Count submissions, judge each by the rules, and keep the decisions with their trees."""
    counted = await store.observe(db, [seen for each in submissions for seen in _activity(each)], now=now)
    judged = [
        (each.order_id, judge(book, _measures(each, counted), each.line_checks)) for each in submissions
    ]
    return await _keep(db, book, judged, now=now)


def _activity(submission: Submission) -> list[Activity]:
    keys = [_account(submission)]
    if submission.device_id:
        keys.append(_device(submission))
    return [
        Activity(
            key=key,
            offers=submission.offered,
            refusals=submission.refused,
            amount_fen=submission.amount_fen,
            near_limit=int(_is_near_limit(submission.amount_fen)),
        )
        for key in keys
    ]


def _measures(submission: Submission, counted: Mapping[str, Row]) -> dict[str, int]:
    measures = {"order_amount_fen": submission.amount_fen}
    for kind, key in (("account", _account(submission)), ("device", _device(submission))):
        if row := counted.get(key):
            measures |= {f"{kind}_{name}": row[name] for name in MEASURES}
    return measures


def _account(submission: Submission) -> str:
    return f"account:{submission.seller_id}"


def _device(submission: Submission) -> str:
    return f"device:{submission.device_id}"


async def assess_payees(
    db: Db, book: RuleBook, uses: Sequence[PayeeUse], *, now: datetime
) -> dict[str, Tree]:
    """Judge the accounts that sellers want to be paid to; the trees by order.

    Only an outcome other than allow is kept.
    """
    sellers = await store.observe_payees(db, uses, now=now)
    rules = _only(book, "payee_sellers_24h")
    trees = {use.order_id: judge(rules, {"payee_sellers_24h": sellers[use.payee_id]}, ()) for use in uses}
    await _keep(db, book, [(order_id, tree) for order_id, tree in trees.items() if tree.deciding()], now=now)
    return trees


async def _keep(
    db: Db, book: RuleBook, judged: Sequence[tuple[str, Tree]], *, now: datetime
) -> list[Decision]:
    """Put decisions on record, each about a subject."""
    decisions = [Decision(new_id("rsk"), tree) for _, tree in judged]
    if decisions:
        await store.keep_decisions(
            db,
            ids=[decision.id for decision in decisions],
            subjects=[subject for subject, _ in judged],
            trees=[decision.tree for decision in decisions],
            rules=book.version,
            now=now,
        )
    return decisions


def _only(book: RuleBook, measure: str) -> RuleBook:
    return RuleBook(tuple(rule for rule in book.rules if rule.measure == measure), book.version)


def _is_near_limit(amount_fen: int) -> bool:
    return any(limit * NEAR_SHARE_BPS // 10_000 <= amount_fen < limit for limit in NEAR_LIMITS_FEN)
