"""Which channel a transfer goes through: what may pay it, what it costs, and whether it answers. Pure.

A channel that leaves several sends in a row without an answer is rested, each time for longer. After its
rest one transfer tries it; an answer of any kind brings it back. A transfer that was sent once stays with
its channel for good: only its successor, after a definite failure, may go elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.settlement.gateway import TransferReport, TransferState

MOST_SILENCES: Final = 5
FIRST_REST: Final = timedelta(seconds=5)
LONGEST_REST: Final = timedelta(minutes=5)
PROBE_LASTS: Final = timedelta(seconds=60)
"""So long a transfer that tries a rested channel keeps others away, should its worker die."""
BPS: Final = 10_000


class Standing(StrEnum):
    """Whether a channel takes transfers. `PROBING`: one, to see whether it answers again."""

    RUNNING = "running"
    PROBING = "probing"
    RESTING = "resting"
    STOPPED = "stopped"
    DISABLED = "disabled"


class Wait(StrEnum):
    """Why a transfer is not sent yet. It goes by itself as soon as a channel takes it."""

    CHANNELS_CLOSED = "channels_closed"
    CHANNEL_DAY_LIMIT = "channel_day_limit"
    NO_CHANNEL_PAYS = "no_channel_pays"


TRY_AGAIN_AFTER: Final = {
    Wait.CHANNELS_CLOSED: timedelta(seconds=10),
    Wait.CHANNEL_DAY_LIMIT: timedelta(minutes=10),
    Wait.NO_CHANNEL_PAYS: timedelta(minutes=10),
}


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A payment channel 出款通道. `used_fen` is what it was told to pay today."""

    name: str
    zh: str
    en: str
    enabled: bool
    priority: int
    min_fen: int
    max_fen: int
    cost_fen: int
    cost_bps: int
    day_limit_fen: int | None
    payee_kinds: tuple[str, ...]
    stopped_by: str | None = None
    stopped_at: datetime | None = None
    stop_note: str | None = None
    silences: int = 0
    trips: int = 0
    rests_until: datetime | None = None
    used_fen: int = 0


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer to send. `channel`: where it was sent before; `refused_by`: who refused its forerunners."""

    out_no: str
    payout_id: str
    amount_fen: int
    payee_kind: str
    channel: str | None = None
    refused_by: tuple[str, ...] = ()


class Going(msgspec.Struct, frozen=True):
    """A transfer with the channel it goes through, and what that costs."""

    transfer: Waiting
    channel: str
    cost_fen: int


class Plan(msgspec.Struct, frozen=True):
    """What goes where, what waits and why, and the channels after that."""

    going: list[Going]
    waiting: list[tuple[Waiting, Wait]]
    channels: dict[str, Channel]


def standing(channel: Channel, now: datetime) -> Standing:
    """Whether a channel takes transfers now."""
    if not channel.enabled:
        return Standing.DISABLED
    if channel.stopped_at is not None:
        return Standing.STOPPED
    if channel.rests_until is None:
        return Standing.RUNNING
    return Standing.RESTING if now < channel.rests_until else Standing.PROBING


def cost_of(channel: Channel, amount_fen: int) -> int:
    """What a transfer costs; a part of a fen counts as a whole one, as channels do."""
    return channel.cost_fen + -(-amount_fen * channel.cost_bps // BPS)


def plan(transfers: Iterable[Waiting], channels: Iterable[Channel], *, now: datetime) -> Plan:
    """Choose a channel for each transfer: the cheapest that may and can; of equals the first by priority.

    One that refused this payout before comes last. Counts what is chosen against each channel's day.
    """
    known = {channel.name: channel for channel in channels}
    made = Plan([], [], known)
    for transfer in transfers:
        able = [channel for channel in known.values() if _may_pay(channel, transfer)]
        taking = [c for c in able if standing(c, now) in (Standing.RUNNING, Standing.PROBING)]
        fit = [c for c in taking if transfer.channel is not None or _has_room(c, transfer.amount_fen)]
        if not fit:
            made.waiting.append((transfer, _why(able, taking)))
            continue
        chosen = min(fit, key=lambda c: _preference(c, transfer))
        made.going.append(Going(transfer, chosen.name, cost_of(chosen, transfer.amount_fen)))
        known[chosen.name] = _charged(chosen, transfer, now)
    return made


def after_answers(channel: Channel, silent: Sequence[bool], *, now: datetime) -> Channel:
    """A channel after sends of which each was answered or met with silence, in this order."""
    trailing = next((n for n, each in enumerate(reversed(silent)) if not each), len(silent))
    answered = trailing < len(silent)
    silences = trailing if answered else channel.silences + trailing
    if silences >= MOST_SILENCES or (not answered and channel.rests_until is not None):
        rest = min(FIRST_REST * 2 ** min(channel.trips, 10), LONGEST_REST)
        return msgspec.structs.replace(
            channel, silences=silences, trips=channel.trips + 1, rests_until=now + rest
        )
    if answered:
        return msgspec.structs.replace(channel, silences=silences, trips=0, rests_until=None)
    return msgspec.structs.replace(channel, silences=silences)


def is_silence(report: TransferReport) -> bool:
    """Whether nothing came back, or only that the other side is broken."""
    reason = report.reason or ""
    return report.state is TransferState.UNKNOWN and (reason == "no_answer" or reason.startswith("http_5"))


def grouped(going: Iterable[Going]) -> Mapping[str, list[Going]]:
    """What goes, by channel."""
    groups: dict[str, list[Going]] = {}
    for each in going:
        groups.setdefault(each.channel, []).append(each)
    return groups


def _may_pay(channel: Channel, transfer: Waiting) -> bool:
    if transfer.channel is not None:
        return channel.name == transfer.channel
    in_bounds = channel.min_fen <= transfer.amount_fen <= channel.max_fen
    return in_bounds and transfer.payee_kind in channel.payee_kinds


def _has_room(channel: Channel, amount_fen: int) -> bool:
    return channel.day_limit_fen is None or channel.used_fen + amount_fen <= channel.day_limit_fen


def _preference(channel: Channel, transfer: Waiting) -> tuple[bool, int, int, str]:
    refused = channel.name in transfer.refused_by
    return refused, cost_of(channel, transfer.amount_fen), channel.priority, channel.name


def _why(able: Sequence[Channel], taking: Sequence[Channel]) -> Wait:
    if not able or all(not channel.enabled for channel in able):
        return Wait.NO_CHANNEL_PAYS
    return Wait.CHANNEL_DAY_LIMIT if taking else Wait.CHANNELS_CLOSED


def _charged(channel: Channel, transfer: Waiting, now: datetime) -> Channel:
    """A channel with a transfer more; one that was to be tried is tried by this one alone."""
    used = channel.used_fen + (transfer.amount_fen if transfer.channel is None else 0)
    rests = channel.rests_until and now + PROBE_LASTS
    return msgspec.structs.replace(channel, used_fen=used, rests_until=rests)
