"""The switch of each channel, and what waited for one to be open."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui import staff
from quanhui.base.access import Actor
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.outbox import emit
from quanhui.settlement import channel_store
from quanhui.settlement.actions import transfer_due
from quanhui.settlement.routing import Channel
from quanhui.settlement.rules import out_no_of


async def stop_channels(db: Db, names: Sequence[str], actor: Actor, *, note: str, now: datetime) -> None:
    """Let nothing new go out through channels; what is under way there is still asked about.

    It holds for every worker from this commit on, and is in the audit trail. Stopping again keeps who did
    first. Raises `NotFound`.
    """
    found = await _lock(db, names, now=now)
    stopped = [
        msgspec.structs.replace(channel, stopped_by=actor.id, stopped_at=now, stop_note=note)
        for channel in found
        if channel.stopped_at is None
    ]
    await _switched(db, stopped, actor, action="channel.stop", note=note, now=now)


async def start_channels(db: Db, names: Sequence[str], actor: Actor, *, note: str, now: datetime) -> None:
    """Let channels take transfers again; what waited for one goes at once. Raises `NotFound`."""
    found = await _lock(db, names, now=now)
    started = [
        msgspec.structs.replace(
            channel,
            stopped_by=None,
            stopped_at=None,
            stop_note=None,
            silences=0,
            trips=0,
            rests_until=None,
        )
        for channel in found
        if channel.stopped_at is not None or channel.rests_until is not None
    ]
    await _switched(db, started, actor, action="channel.start", note=note, now=now)
    await channel_store.hurry_waiting(db, now=now)


async def wake_waiting(db: Db, *, limit: int = 100, now: datetime) -> int:
    """Have transfers sent that no channel could take when they were due; returns how many are tried.

    Those that still find none wait on. Run it every two seconds.
    """
    woken = await channel_store.wake_waiting(db, limit=limit, now=now)
    if woken:
        await emit(db, [transfer_due(out_no_of(id_, number)) for id_, number in woken], now=now)
    return len(woken)


async def _lock(db: Db, names: Sequence[str], *, now: datetime) -> list[Channel]:
    found = await channel_store.lock_channels(db, names, now=now)
    if len(found) < len(set(names)):
        raise NotFound
    return found


async def _switched(
    db: Db, channels: Sequence[Channel], actor: Actor, *, action: str, note: str, now: datetime
) -> None:
    if not channels:
        return
    await channel_store.store_channels(db, channels)
    entries = [
        staff.AuditEntry(actor_id=actor.id, action=action, subject=channel.name, reason=note)
        for channel in channels
    ]
    await staff.audit(db, entries, now=now)
