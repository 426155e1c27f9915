"""Rows of redemption to types and back. The SQL stands in `queries.sql`."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from quanhui.base.db import Db, Row, load_queries
from quanhui.redemption.rules import Redemption, Refusal, Reversal, ReversalState, State

queries = load_queries(__file__)

ADDED = (
    "id", "voucher_id", "product_id", "issuer_id", "own_issue", "holder_id", "store_id", "merchant_id",
    "operator_id", "request_key", "till_reference", "state", "authorised_fen", "captured_fen",
    "awaits_issuer", "asked_at", "expires_at", "created_at", "captured_at",
)  # fmt: skip


def redemption_of(row: Row) -> Redemption:
    return Redemption(**{**row, "state": State(row["state"])})


def reversals_of(rows: Iterable[Row]) -> list[Reversal]:
    return [Reversal(**{**row, "state": ReversalState(row["state"])}) for row in rows]


async def add(db: Db, redemption: Redemption) -> bool:
    fields = msgspec.structs.asdict(redemption)
    return await queries.add(db, **{name: fields[name] for name in ADDED}) is not None


async def find(db: Db, ids: Sequence[str]) -> list[Redemption]:
    return [redemption_of(row) for row in await queries.find(db, ids=list(ids))]


async def lock(db: Db, ids: Sequence[str]) -> list[Redemption]:
    return [redemption_of(row) for row in await queries.lock(db, ids=sorted(ids))]


async def add_refusals(db: Db, refusals: Sequence[Refusal], *, now: datetime) -> None:
    await queries.add_refusals(
        db,
        reasons=[refusal.reason for refusal in refusals],
        fingerprints=[refusal.fingerprint for refusal in refusals],
        store_ids=[refusal.store_id for refusal in refusals],
        operator_ids=[refusal.operator_id for refusal in refusals],
        now=now,
    )
