"""Verbs of risk: they count what happens and answer; they move nothing."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.risk import store
from quanhui.risk.rules import Check, PayeeUse, RuleBook, Tree, judge

NEAR_LIMITS_FEN = (500_000, 1_000_000, 5_000_000)
NEAR_SHARE_BPS = 9_500
"""Amounts from 95% of a reporting limit up to just under it are a sign of structuring 拆分."""


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


async def assess(db: Db, book: RuleBook, submission: Submission, *, now: datetime) -> Decision:
    """Count a submission, judge it by the rules, and keep the decision with its tree."""
    account, device = f"account:{submission.seller_id}", f"device:{submission.device_id}"
    rows = await store.observe(
        db,
        [account, device] if submission.device_id else [account],
        offers=submission.offered,
        refusals=submission.refused,
        amount_fen=submission.amount_fen,
        near_limit=int(_is_near_limit(submission.amount_fen)),
        now=now,
    )
    measures = {"order_amount_fen": submission.amount_fen}
    for row in rows:
        kind = "account" if row["key"] == account else "device"
        measures |= {
            f"{kind}_refusals_1h": row["refusals_1h"],
            f"{kind}_offers_24h": row["offers_24h"],
            f"{kind}_amount_fen_24h": row["amount_fen_24h"],
            f"{kind}_near_limit_24h": row["near_limit_24h"],
        }
    return await _keep(db, book, submission.order_id, judge(book, measures, submission.line_checks), now=now)


async def assess_payees(
    db: Db, book: RuleBook, uses: Sequence[PayeeUse], *, now: datetime
) -> dict[str, Tree]:
    """Judge the accounts that sellers want to be paid to; the trees by order.

    Only an outcome other than allow is kept.
    """
    sellers = await store.observe_payees(db, uses, now=now)
    rules = _only(book, "payee_sellers_24h")
    trees = {use.order_id: judge(rules, {"payee_sellers_24h": sellers[use.payee_id]}, ()) for use in uses}
    for order_id, tree in trees.items():
        if tree.deciding():
            await _keep(db, book, order_id, tree, now=now)
    return trees


async def _keep(db: Db, book: RuleBook, subject: str, tree: Tree, *, now: datetime) -> Decision:
    decision = Decision(new_id("rsk"), tree)
    await store.keep_decision(
        db, decision_id=decision.id, subject=subject, tree=tree, rules=book.version, now=now
    )
    return decision


def _only(book: RuleBook, measure: str) -> RuleBook:
    return RuleBook(tuple(rule for rule in book.rules if rule.measure == measure), book.version)


def _is_near_limit(amount_fen: int) -> bool:
    return any(limit * NEAR_SHARE_BPS // 10_000 <= amount_fen < limit for limit in NEAR_LIMITS_FEN)
