"""The run of the day after: statements are drawn, agreed by silence, and become due or are carried."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from quanhui import ledger
from quanhui.base.clock import end_of_local_day
from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.base.outbox import Fact, emit
from quanhui.redemption.merchants.money import take_from_merchant
from quanhui.redemption.merchants.rules import (
    LATE_FOR,
    MOST_DAYS_A_RUN,
    SILENCE_AGREES_AFTER,
    Claim,
    ClaimKind,
    StatementState,
)
from quanhui.redemption.merchants.store import queries

STATEMENT_DUE = "redemption.statement_due"
GRACE = timedelta(minutes=30)
"""How long after midnight in Shanghai the run waits for requests of the old day to commit."""
BATCH = 1000


async def draw_statements(db: Db, *, now: datetime) -> int:
    """Draw the statements of every Shanghai day that is over and not run yet; returns how many statements.

    At most `MOST_DAYS_A_RUN` days at a time. A day is run once, whoever asks how often: what was committed
    too late for its day stands on the statement of the next.
    """
    drawn = 0
    for _ in range(MOST_DAYS_A_RUN):
        day: date | None = await queries.next_day(db)
        if day is None or end_of_local_day(day) + GRACE > now:
            break
        drawn += await _draw(db, day, now=now)
    return drawn


async def release_statements(db: Db, *, limit: int = BATCH, now: datetime) -> int:
    """Count silence as agreement, and make what is agreed due; returns how many statements moved.

    A statement that comes to nothing or less is carried forward to the merchant's next.
    """
    drawn_before = now - SILENCE_AGREES_AFTER
    agreed: int = await queries.agree_by_silence(db, drawn_before=drawn_before, limit=limit, now=now)
    released = await queries.release(db, limit=limit, now=now)
    facts = [
        Fact(STATEMENT_DUE, row["id"], {"merchant_id": row["merchant_id"], "amount_fen": row["net_fen"]})
        for row in released
        if row["state"] == StatementState.DUE
    ]
    if facts:
        await emit(db, facts, now=now)
    return agreed + len(released)


async def add_claims(db: Db, claims: Sequence[Claim]) -> set[str]:
    """Note what merchants are owed for other things than redemptions; posts nothing.

    A subject counts once. Returns the subjects that are new.
    """
    rows = await queries.add_claims(
        db,
        subjects=[claim.subject for claim in claims],
        merchant_ids=[claim.merchant_id for claim in claims],
        kinds=[claim.kind for claim in claims],
        amounts=[claim.amount_fen for claim in claims],
        notes=[claim.note for claim in claims],
        creators=[claim.created_by for claim in claims],
        happened=[claim.happened_at for claim in claims],
    )
    return {row["subject"] for row in rows}


async def charge_merchant(
    db: Db, merchant_id: str, *, amount_fen: int, note: str, actor_id: str, now: datetime
) -> Claim:
    """Charge a merchant its share of a campaign: taken from its account now, and on its next statement."""
    claim = Claim(
        subject=new_id("mch"),
        merchant_id=merchant_id,
        kind=ClaimKind.CAMPAIGN,
        amount_fen=-amount_fen,
        note=note,
        created_by=actor_id,
        happened_at=now,
    )
    await add_claims(db, [claim])

    def post(*, short_fen: int) -> list[ledger.Transfer]:
        return ledger.postings.merchant_charged(
            claim.subject, merchant_id=merchant_id, amount_fen=amount_fen, short_fen=short_fen
        )

    await take_from_merchant(db, post, merchant_id=merchant_id, amount_fen=amount_fen, now=now)
    return claim


async def _draw(db: Db, day: date, *, now: datetime) -> int:
    if await queries.begin_run(db, day=day, now=now) is None:
        return 0
    until = end_of_local_day(day)
    sums = await queries.gather_lines(db, day=day, since=until - LATE_FOR, until=until)
    await queries.draw_statements(
        db,
        ids=[new_id("mst") for _ in sums],
        merchant_ids=[row["merchant_id"] for row in sums],
        lines=[row["lines"] for row in sums],
        gross_fen=[row["gross_fen"] for row in sums],
        fee_fen=[row["fee_fen"] for row in sums],
        day=day,
        now=now,
    )
    return len(sums)
