"""Rules, counters and decisions."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui.base.cached import Cached
from quanhui.base.db import Db, Reader, Row, load_queries
from quanhui.risk.rules import Activity, Check, KeptDecision, Outcome, PayeeUse, Rule, RuleBook, Tree

queries = load_queries(__file__)


async def load_rules(db: Reader, version: int) -> RuleBook:
    rules = [
        Rule(**{**dict(row), "outcome": Outcome(row["outcome"])}) for row in await queries.read_rules(db)
    ]
    return RuleBook(tuple(rules), f"rules-{version}")


def cached_rules() -> Cached[RuleBook]:
    """The book of rules as a process keeps it."""
    return Cached("risk", load_rules)


async def observe(db: Db, seen: Sequence[Activity], *, now: datetime) -> dict[str, Row]:
    rows = await queries.observe(
        db,
        keys=[each.key for each in seen],
        offers=[each.offers for each in seen],
        refusals=[each.refusals for each in seen],
        amounts=[each.amount_fen for each in seen],
        near_limits=[each.near_limit for each in seen],
        now=now,
    )
    return {row["key"]: row for row in rows}


async def observe_payees(db: Db, uses: Sequence[PayeeUse], *, now: datetime) -> dict[str, int]:
    rows = await queries.observe_payees(
        db, payee_ids=[use.payee_id for use in uses], seller_ids=[use.seller_id for use in uses], now=now
    )
    return {row["payee_id"]: row["sellers"] for row in rows}


async def keep_decisions(
    db: Db,
    *,
    ids: Sequence[str],
    subjects: Sequence[str],
    trees: Sequence[Tree],
    rules: str,
    now: datetime,
) -> None:
    await queries.keep_decisions(
        db,
        ids=ids,
        subjects=subjects,
        outcomes=[tree.outcome for tree in trees],
        trees=[msgspec.json.encode(tree.checks).decode() for tree in trees],
        rules=rules,
        now=now,
    )


async def find_decision(db: Db, decision_id: str) -> KeptDecision:
    """A decision with its tree, as it was made."""
    row = await queries.find_decision(db, id=decision_id)
    checks = msgspec.convert(row["tree"], tuple[Check, ...])
    tree = Tree(Outcome(row["outcome"]), checks)
    return KeptDecision(id=row["id"], tree=tree, rules=row["rules"], at=row["at"])
