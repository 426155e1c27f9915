"""The levers of operations: the outbox with its dead letters, and freezing vouchers.

Each composes verbs of several parts in one transaction, which is what `entry` is for.
"""

from datetime import datetime
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct

from quanhui import evidence, staff, vouchers
from quanhui.base import outbox
from quanhui.base.access import Scope, needs
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.outbox import Fact
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call
from quanhui.story import VOUCHERS_FROZEN
from quanhui.vouchers import Custody, Integrity, Value, Voucher

Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
Reason = Annotated[str, Meta(min_length=1, max_length=200, description="Why, for the record.")]
VoucherId = Annotated[str, PathParameter(max_length=64, description="Voucher id.")]


class QueueView(Struct, frozen=True):
    """The queue of one subscriber of the story."""

    subscriber: Annotated[str, Meta(examples=["settlement.send_transfers"])]
    waiting: int
    dead: int
    oldest_at: datetime


class DeadLetterView(Struct, frozen=True):
    """A fact that its subscriber gave up on. `last_error` names the failure, never a secret."""

    id: str
    topic: str
    subscriber: str
    subject: str
    attempts: int
    last_error: str | None
    dead_at: datetime


class ReviveBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose dead letters to try again; everyone's unless named."""

    subscriber: Annotated[str, Meta(max_length=80, examples=["settlement.send_transfers"])] | None = None


class RevivedView(Struct, frozen=True):
    """How many were put back."""

    revived: int


class IntegrityBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a voucher is to be trusted from now on, and why."""

    integrity: Annotated[Integrity, Meta(examples=["frozen"])]
    reason: Annotated[Reason, Meta(examples=["持券人报案，券码疑似被盗"])]


class PathStepView(Struct, frozen=True):
    """One event of a voucher's path."""

    kind: str
    subject: str
    facts: dict[str, str | int | bool]
    at: datetime
    leaf_index: int | None


class VoucherView(Struct, frozen=True, kw_only=True):
    """A voucher of the registry 券, and everything that happened to it."""

    id: str
    product_id: str
    issuer_id: str
    masked_code: str
    face_fen: int
    verified_fen: int
    authorised_fen: int
    captured_fen: int
    expires_at: datetime
    custody: Custody
    value: Value
    integrity: Integrity
    holder_id: str | None
    path: list[PathStepView]


@get("/outbox/queues", opt=needs("outbox.read", Scope.ALL), operation_id="list_queues", tags=["operations"])
async def list_queues(call: NamedDependency[Call]) -> Response[list[QueueView]]:
    """See what waits in the outbox 任务队列

    For each subscriber of the story: facts waiting, facts given up, and since when.
    """
    rows = await call.query(outbox.backlog)
    return Response([QueueView(**dict(row)) for row in rows])


@get(
    "/outbox/dead-letters",
    opt=needs("outbox.read", Scope.ALL),
    operation_id="list_dead_letters",
    tags=["operations"],
)
async def list_dead_letters(
    call: NamedDependency[Call],
    cursor: Annotated[
        int | None, QueryParameter(ge=0, le=2**63 - 1, description="`next_cursor` of the page before.")
    ] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[DeadLetterView]]:
    """See which facts were given up 死信

    Newest first, with the failure that came last.
    """
    rows = await call.query(lambda db: outbox.dead_letters(db, before=cursor, limit=limit + 1))
    letters = [DeadLetterView(**{**dict(row), "id": str(row["id"])}) for row in rows]
    return Response(page_of(letters, limit=limit))


@post(
    "/outbox/revive",
    opt=needs("outbox.revive", Scope.ALL),
    status_code=200,
    operation_id="revive_dead_letters",
    tags=["operations"],
)
async def revive(call: NamedDependency[Call], data: JSONBody[ReviveBody]) -> Response[RevivedView]:
    """Try dead letters again 重试死信

    Each gets a fresh set of attempts. Mend the cause first.
    """

    async def verb(db: Db) -> RevivedView:
        count = await outbox.revive(db, subscriber=data.subscriber, now=call.now)
        await _audit(db, call, "outbox.revive", data.subscriber or "all", f"{count} revived")
        return RevivedView(count)

    return await call.command(verb)


@get(
    "/vouchers/{voucher_id:str}",
    opt=needs("vouchers.read", Scope.ALL),
    operation_id="get_voucher",
    tags=["operations"],
)
async def get_voucher(call: NamedDependency[Call], voucher_id: VoucherId) -> Response[VoucherView]:
    """Show a voucher and its path 券的来龙去脉."""
    return Response(await call.query(lambda db: _view(db, voucher_id)))


@post(
    "/vouchers/{voucher_id:str}/integrity",
    opt=needs("vouchers.freeze", Scope.ALL),
    status_code=200,
    operation_id="set_voucher_integrity",
    tags=["operations"],
)
async def set_voucher_integrity(
    call: NamedDependency[Call], voucher_id: VoucherId, data: JSONBody[IntegrityBody]
) -> Response[VoucherView]:
    """Freeze a voucher, or clear it again 冻结与解冻

    Frozen blocks listing, reveal, redemption, payout and pledge; what is for sale leaves the market.
    """

    async def verb(db: Db) -> VoucherView:
        await _view(db, voucher_id)
        await vouchers.set_integrity(db, [voucher_id], data.integrity)
        event = evidence.Event(voucher_id, f"integrity_{data.integrity}", voucher_id)
        await evidence.record(db, [event], now=call.now)
        await _audit(db, call, f"voucher.{data.integrity}", voucher_id, data.reason)
        if data.integrity is not Integrity.CLEAR:
            await outbox.emit(
                db, [Fact(VOUCHERS_FROZEN, voucher_id, {"voucher_ids": [voucher_id]})], now=call.now
            )
        return await _view(db, voucher_id)

    return await call.command(verb)


async def _view(db: Db, voucher_id: str) -> VoucherView:
    voucher: Voucher | None = (await vouchers.find_vouchers(db, [voucher_id])).get(voucher_id)
    if voucher is None:
        raise NotFound
    path = await evidence.path_of(db, voucher_id)
    return VoucherView(
        id=voucher.id,
        product_id=voucher.product_id,
        issuer_id=voucher.issuer_id,
        masked_code=f"••••{voucher.tail}",
        face_fen=voucher.face_fen,
        verified_fen=voucher.verified_fen,
        authorised_fen=voucher.authorised_fen,
        captured_fen=voucher.captured_fen,
        expires_at=voucher.expires_at,
        custody=voucher.custody,
        value=voucher.value,
        integrity=voucher.integrity,
        holder_id=voucher.holder_id,
        path=[PathStepView(e.kind, e.subject, e.facts, e.at, e.leaf_index) for e in path],
    )


async def _audit(db: Db, call: Call, action: str, subject: str, reason: str) -> None:
    entry = staff.AuditEntry(actor_id=call.actor.id, action=action, subject=subject, reason=reason)
    await staff.audit(db, [entry], now=call.now)


handlers: list[HTTPRouteHandler] = [
    list_queues,
    list_dead_letters,
    revive,
    get_voucher,
    set_voucher_integrity,
]
