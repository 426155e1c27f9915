"""Rules, counters and decisions."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui.base.cached import Cached
from quanhui.base.db import Db, Reader, Row, load_queries
from quanhui.risk.rules import Check, KeptDecision, Outcome, PayeeUse, Rule, RuleBook, Tree

queries = load_queries(__file__)


async def load_rules(db: Reader, version: int) -> RuleBook:
    rules = [
        Rule(**{**dict(row), "outcome": Outcome(row["outcome"])}) for row in await queries.read_rules(db)
    ]
    return RuleBook(tuple(rules), f"rules-{version}")


def cached_rules() -> Cached[RuleBook]:
    """The book of rules as a process keeps it."""
    return Cached("risk", load_rules)


async def observe(
    db: Db,
    keys: Sequence[str],
    *,
    offers: int,
    refusals: int,
    amount_fen: int,
    near_limit: int,
    now: datetime,
) -> list[Row]:
    rows: list[Row] = await queries.observe(
        db, keys=keys, offers=offers, refusals=refusals, amount_fen=amount_fen, near_limit=near_limit, now=now
    )
    return rows


async def observe_payees(db: Db, uses: Sequence[PayeeUse], *, now: datetime) -> dict[str, int]:
    rows = await queries.observe_payees(
        db, payee_ids=[use.payee_id for use in uses], seller_ids=[use.seller_id for use in uses], now=now
    )
    return {row["payee_id"]: row["sellers"] for row in rows}


async def keep_decision(
    db: Db, *, decision_id: str, subject: str, tree: Tree, rules: str, now: datetime
) -> None:
    await queries.keep_decision(
        db,
        id=decision_id,
        subject=subject,
        outcome=tree.outcome,
        tree=msgspec.to_builtins(tree.checks),
        rules=rules,
        now=now,
    )


async def find_decision(db: Db, decision_id: str) -> KeptDecision:
    """A decision with its tree, as it was made."""
    row = await queries.find_decision(db, id=decision_id)
    checks = msgspec.convert(row["tree"], tuple[Check, ...])
    tree = Tree(Outcome(row["outcome"]), checks)
    return KeptDecision(id=row["id"], tree=tree, rules=row["rules"], at=row["at"])
