"""Payment channels over HTTP: how each fares, and its switch."""

from datetime import datetime
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct

from quanhui.base.access import Scope, needs
from quanhui.base.db import Db
from quanhui.base.web import Call
from quanhui.settlement import channel_store
from quanhui.settlement.routing import Standing, standing
from quanhui.settlement.store import Words
from quanhui.settlement.switches import start_channels, stop_channels
from quanhui.settlement.views import READ, ReasonView

SWITCH = needs("settlement.channels", Scope.ALL)
TAGS = ["settlement"]
STANDING_WORDS = {
    Standing.PROBING: Words(
        "休息已结束，下一笔将试探是否恢复", "Its rest is over; the next transfer tries it"
    ),
    Standing.RESTING: Words(
        "连续多次无应答，暂停一会儿后自动试探",
        "It left several calls unanswered; it is tried again by itself",
    ),
    Standing.STOPPED: Words("已由工作人员停用", "Stopped by a member of staff"),
    Standing.DISABLED: Words("未启用", "Not in use"),
}

ChannelName = Annotated[str, PathParameter(max_length=32, description="Name of the channel.")]


class SwitchNote(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the switch is moved."""

    note: Annotated[
        str,
        Meta(min_length=4, max_length=200, description="Kept in the audit trail.", examples=["对账差异待查"]),
    ]


class ChannelView(Struct, frozen=True, kw_only=True):
    """A payment channel 出款通道 and how it fares."""

    name: Annotated[str, Meta(examples=["institution"])]
    zh: Annotated[str, Meta(examples=["持牌支付机构"])]
    en: Annotated[str, Meta(examples=["Licensed institution"])]
    standing: Annotated[Standing, Meta(description="Whether it takes transfers now.")]
    reason: Annotated[ReasonView | None, Meta(description="Why it takes none, or only one to try.")]
    rests_until: Annotated[datetime | None, Meta(description="When it is tried again by itself.")]
    stopped_by: str | None
    stopped_at: datetime | None
    stop_note: str | None
    payee_kinds: Annotated[list[str], Meta(examples=[["wechat", "bank_card"]])]
    min_fen: int
    max_fen: int
    cost_fen: Annotated[int, Meta(description="Cost of a transfer, beside `cost_bps` of its amount.")]
    cost_bps: int
    day_limit_fen: int | None
    used_today_fen: Annotated[int, Meta(description="What it was told to pay today, Shanghai time.")]
    answered: Annotated[int, Meta(description="Calls it answered in the last 15 minutes.")]
    silent: Annotated[int, Meta(description="Calls it left without an answer in the last 15 minutes.")]


class ChannelList(Struct, frozen=True):
    """All channels, by priority."""

    items: list[ChannelView]


@get("/channels", opt=needs(READ, Scope.ALL), operation_id="list_channels", tags=TAGS)
async def list_channels(call: NamedDependency[Call]) -> Response[ChannelList]:
    """List payment channels 出款通道

    How each stands, why it takes nothing if so, how its calls fared, and what it was told to pay today.
    """
    return Response(await call.query(lambda db: _list(db, now=call.now)))


@post("/channels/{name:str}/stop", opt=SWITCH, operation_id="stop_channel", tags=TAGS, status_code=200)
async def stop_channel(
    call: NamedDependency[Call], name: ChannelName, data: JSONBody[SwitchNote]
) -> Response[ChannelView]:
    """Stop a channel 停用通道

    Nothing new goes out through it from now on. What is under way is still asked about; what was to go goes
    through other channels, or waits. It is in the audit trail.
    """

    async def stop(db: Db) -> ChannelView:
        await stop_channels(db, [name], call.actor, note=data.note, now=call.now)
        return await _one(db, name, now=call.now)

    return await call.command(stop)


@post("/channels/{name:str}/start", opt=SWITCH, operation_id="start_channel", tags=TAGS, status_code=200)
async def start_channel(
    call: NamedDependency[Call], name: ChannelName, data: JSONBody[SwitchNote]
) -> Response[ChannelView]:
    """Start a channel 恢复通道

    It takes transfers again, also before the end of a rest; what waited for one goes at once.
    """

    async def start(db: Db) -> ChannelView:
        await start_channels(db, [name], call.actor, note=data.note, now=call.now)
        return await _one(db, name, now=call.now)

    return await call.command(start)


async def _list(db: Db, *, now: datetime) -> ChannelList:
    return ChannelList([_view(fared, now) for fared in await channel_store.list_channels(db, now=now)])


async def _one(db: Db, name: str, *, now: datetime) -> ChannelView:
    return next(view for view in (await _list(db, now=now)).items if view.name == name)


def _view(fared: channel_store.Fared, now: datetime) -> ChannelView:
    channel = fared.channel
    stands = standing(channel, now)
    words = STANDING_WORDS.get(stands)
    return ChannelView(
        name=channel.name,
        zh=channel.zh,
        en=channel.en,
        standing=stands,
        reason=ReasonView(stands, words.zh, words.en) if words else None,
        rests_until=channel.rests_until,
        stopped_by=channel.stopped_by,
        stopped_at=channel.stopped_at,
        stop_note=channel.stop_note,
        payee_kinds=list(channel.payee_kinds),
        min_fen=channel.min_fen,
        max_fen=channel.max_fen,
        cost_fen=channel.cost_fen,
        cost_bps=channel.cost_bps,
        day_limit_fen=channel.day_limit_fen,
        used_today_fen=channel.used_fen,
        answered=fared.answered,
        silent=fared.silent,
    )


handlers: list[HTTPRouteHandler] = [list_channels, stop_channel, start_channel]
