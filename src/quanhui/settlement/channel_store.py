"""Rows of payment channels to types and back, and of what waits for one."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from quanhui.base.clock import local_day
from quanhui.base.db import Db, Row
from quanhui.settlement.routing import TRY_AGAIN_AFTER, Channel, Plan, Waiting
from quanhui.settlement.rules import CALL_LIMIT
from quanhui.settlement.store import queries

LOOKS_BACK = timedelta(minutes=15)
WOKEN_FOR = timedelta(minutes=1)


class Fared(msgspec.Struct, frozen=True):
    """A channel, and how its calls fared in the last quarter of an hour."""

    channel: Channel
    answered: int
    silent: int


def _channel(row: Row, used_fen: int) -> Channel:
    given = {name: row[name] for name in Channel.__struct_fields__ if name != "used_fen"}
    return Channel(**given | {"payee_kinds": tuple(row["payee_kinds"]), "used_fen": used_fen})


def waiting_transfer(row: Row, payee_kind: str) -> Waiting:
    """A transfer that is due, with the kind of account it goes to."""
    return Waiting(
        out_no=row["out_no"],
        payout_id=row["id"],
        amount_fen=row["amount_fen"],
        payee_kind=payee_kind,
        channel=row["channel"],
        refused_by=tuple(row["refused_by"]),
    )


async def lock_due(db: Db, out_nos: Sequence[str]) -> list[Row]:
    """Transfers not begun yet, locked with their payouts."""
    rows: list[Row] = await queries.lock_due(db, out_nos=out_nos)
    return rows


async def lock_channels(db: Db, names: Sequence[str], *, now: datetime) -> list[Channel]:
    """Channels by name, so that nobody else chooses meanwhile.

    What they were told to pay is read in a statement of its own: one that waited for the lock would not see
    what was counted meanwhile.
    """
    rows = await queries.lock_channels(db, names=names)
    scopes = [f"channel:{row['name']}" for row in rows]
    totals = await queries.day_totals(db, day=local_day(now), scopes=scopes)
    used = {row["scope"]: row["amount_fen"] for row in totals}
    return [_channel(row, used.get(f"channel:{row['name']}", 0)) for row in rows]


async def list_channels(db: Db, *, now: datetime) -> list[Fared]:
    """All channels, by priority."""
    rows = await queries.list_channels(db, day=local_day(now), since=now - LOOKS_BACK)
    return [Fared(_channel(row, row["used_fen"]), row["answered"], row["silent"]) for row in rows]


async def store_channels(db: Db, channels: Sequence[Channel]) -> None:
    """Write back how channels fare and who stopped them."""
    await queries.store_channels(
        db,
        names=[channel.name for channel in channels],
        silences=[channel.silences for channel in channels],
        trips=[channel.trips for channel in channels],
        rests_untils=[channel.rests_until for channel in channels],
        stopped_bys=[channel.stopped_by for channel in channels],
        stopped_ats=[channel.stopped_at for channel in channels],
        stop_notes=[channel.stop_note for channel in channels],
    )


async def begin_calls(db: Db, made: Plan, *, now: datetime) -> None:
    """Write a plan down: what goes is being called, counted against its channel's day; the rest waits."""
    if made.going:
        new = [each for each in made.going if each.transfer.channel is None]
        await queries.begin_calls(
            db,
            out_nos=[each.transfer.out_no for each in made.going],
            channels=[each.channel for each in made.going],
            costs_fen=[each.cost_fen for each in made.going],
            query_at=now + CALL_LIMIT,
            now=now,
        )
        await queries.add_totals(
            db,
            day=local_day(now),
            scopes=[f"channel:{each.channel}" for each in new],
            amounts_fen=[each.transfer.amount_fen for each in new],
        )
        probing = [channel for channel in made.channels.values() if channel.rests_until is not None]
        if probing:
            await store_channels(db, probing)
    if made.waiting:
        await queries.keep_waiting(
            db,
            ids=[transfer.payout_id for transfer, _ in made.waiting],
            reasons=[why for _, why in made.waiting],
            send_ats=[now + TRY_AGAIN_AFTER[why] for _, why in made.waiting],
            now=now,
        )


async def wake_waiting(db: Db, *, limit: int, now: datetime) -> list[tuple[str, int]]:
    """Payouts, with the number of the transfer, whose time to try the channels again has come."""
    rows = await queries.wake_waiting(db, limit=limit, again_at=now + WOKEN_FOR, now=now)
    return [(row["id"], row["attempts"]) for row in rows]


async def hurry_waiting(db: Db, *, now: datetime) -> None:
    """A channel is open again: what waited for one is due now."""
    await queries.hurry_waiting(db, now=now)


async def count_answers(db: Db, channel: str, silent: Sequence[bool], *, now: datetime) -> None:
    """Count calls answered and not, for whoever looks at how a channel fares."""
    await queries.count_answers(
        db, channel=channel, answered=silent.count(False), silent=silent.count(True), now=now
    )
