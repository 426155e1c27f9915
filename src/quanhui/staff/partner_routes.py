"""HTTP for administrators who look after partners 合作方 and their signing keys."""

from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta

from quanhui.base.db import Db
from quanhui.base.keyring import Keyring
from quanhui.base.paging import PAGE_DEFAULT, Page, page_of
from quanhui.base.web import Call
from quanhui.staff import partners
from quanhui.staff.forms import (
    ADMIN,
    Cursor,
    PageSize,
    PathId,
    PlaceId,
    Reason,
    StaffStatusBody,
    StaffStatusView,
)
from quanhui.staff.rules import Partner


class PartnerBody(msgspec.Struct, forbid_unknown_fields=True):
    """A program to let in, and whose it is."""

    name: Annotated[
        str,
        Meta(
            description="Name of the program 合作方名称",
            min_length=2,
            max_length=100,
            examples=["锦里福利商城"],
        ),
    ]
    enterprise_id: Annotated[PlaceId, Meta(examples=["ent_01jd8x9k2mf3wvq5t7y1h4n6pz"])] | None = None
    merchant_id: PlaceId | None = None


class RevokeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Why a key ends."""

    reason: Reason


class PartnerKeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A signing key. The secret is shown here once and never again."""

    partner_id: str
    key_id: str
    secret: str


class EndedKeyView(msgspec.Struct, frozen=True):
    """A key that no longer works."""

    key_id: str


@get("/staff/partners", operation_id="list_partners", opt=ADMIN, tags=["staff"])
async def list_partners(
    call: NamedDependency[Call], cursor: Cursor = None, limit: PageSize = PAGE_DEFAULT
) -> Response[Page[Partner]]:
    """List partners 合作方

    Newest first.
    """

    async def read(db: Db) -> Page[Partner]:
        return page_of(await partners.list_partners(db, before=cursor, limit=limit + 1), limit=limit)

    return Response(await call.query(read))


@post("/staff/partners", operation_id="add_partner", opt=ADMIN, tags=["staff"])
async def add_partner(
    call: NamedDependency[Call], keyring: NamedDependency[Keyring], data: JSONBody[PartnerBody]
) -> Response[PartnerKeyView]:
    """Add a partner 新增合作方

    With its first signing key. The secret is shown this once.
    """

    async def work(db: Db) -> PartnerKeyView:
        key = await partners.add_partner(
            db,
            keyring,
            name=data.name,
            enterprise_id=data.enterprise_id,
            merchant_id=data.merchant_id,
            actor_id=call.actor.id,
            now=call.now,
        )
        return PartnerKeyView(partner_id=key.partner_id, key_id=key.key_id, secret=key.secret)

    return await call.command(work, status=201, keep_answer=False)


@post("/staff/partners/{partner_id:str}/keys", operation_id="add_partner_key", opt=ADMIN, tags=["staff"])
async def add_partner_key(
    call: NamedDependency[Call], keyring: NamedDependency[Keyring], partner_id: PathId
) -> Response[PartnerKeyView]:
    """Add a signing key 新增密钥

    To change over without a break. The secret is shown this once.
    """

    async def work(db: Db) -> PartnerKeyView:
        key = await partners.add_partner_key(
            db, keyring, partner_id=partner_id, actor_id=call.actor.id, now=call.now
        )
        return PartnerKeyView(partner_id=key.partner_id, key_id=key.key_id, secret=key.secret)

    return await call.command(work, status=201, keep_answer=False)


@post(
    "/staff/partners/{partner_id:str}/keys/{key_id:str}/revoke",
    operation_id="revoke_partner_key",
    opt=ADMIN,
    tags=["staff"],
    status_code=200,
)
async def revoke_partner_key(
    call: NamedDependency[Call], partner_id: PathId, key_id: PathId, data: JSONBody[RevokeBody]
) -> Response[EndedKeyView]:
    """End a signing key 吊销密钥

    At once; the others go on.
    """

    async def work(db: Db) -> EndedKeyView:
        await partners.revoke_partner_key(
            db,
            partner_id=partner_id,
            key_id=key_id,
            actor_id=call.actor.id,
            reason=data.reason,
            now=call.now,
        )
        return EndedKeyView(key_id)

    return await call.command(work)


@post(
    "/staff/partners/{partner_id:str}/status",
    operation_id="set_partner_status",
    opt=ADMIN,
    tags=["staff"],
    status_code=200,
)
async def set_partner_status(
    call: NamedDependency[Call], partner_id: PathId, data: JSONBody[StaffStatusBody]
) -> Response[StaffStatusView]:
    """Suspend or reinstate a partner 停用或恢复合作方

    With all its keys, at once.
    """

    async def work(db: Db) -> StaffStatusView:
        await partners.set_partner_status(
            db,
            partner_id=partner_id,
            status=data.status,
            actor_id=call.actor.id,
            reason=data.reason,
            now=call.now,
        )
        return StaffStatusView(partner_id, data.status)

    return await call.command(work)


handlers: list[Any] = [list_partners, add_partner, add_partner_key, revoke_partner_key, set_partner_status]
