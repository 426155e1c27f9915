"""What is done with staff: adding, suspending, new credentials, and the record of what they do."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring
from quanhui.base.tokens import end_sessions
from quanhui.staff.errors import LoginTaken, NotYourself
from quanhui.staff.rules import (
    AuditEntry,
    AuditRecord,
    NewOperator,
    Operator,
    Role,
    Status,
    open_operator,
    plain_login,
    seal_operator,
)
from quanhui.staff.store import check_roles, operator_from, private_part, queries
from quanhui.staff.totp import new_totp_secret


async def audit(db: Db, entries: Sequence[AuditEntry], *, now: datetime) -> None:
    """Write down what staff did, in the transaction in which they did it. Entries are never changed."""
    await queries.add_audit_entries(
        db,
        ids=[new_id("aud") for _ in entries],
        actor_ids=[entry.actor_id for entry in entries],
        actions=[entry.action for entry in entries],
        subjects=[entry.subject for entry in entries],
        reasons=[entry.reason for entry in entries],
        now=now,
    )


async def audit_trail(
    db: Db,
    *,
    actor_id: str | None = None,
    subject: str | None = None,
    before: str | None = None,
    limit: int,
) -> list[AuditRecord]:
    """What staff did, newest first; of one actor or to one subject where asked."""
    rows = await queries.list_audit_entries(
        db, actor_id=actor_id, subject=subject, before=before, limit=limit
    )
    return [AuditRecord(**dict(row)) for row in rows]


async def roles(db: Db) -> list[Role]:
    """All roles with what they grant."""
    return [msgspec.convert(dict(row), Role) for row in await queries.list_roles(db)]


async def add_operator(
    db: Db, keyring: Keyring, operator: NewOperator, *, actor_id: str, now: datetime
) -> Operator:
    """Add someone to staff. Raises `UnknownRole`, `RoleNeedsPlace`, `LoginTaken`."""
    await check_roles(db, [operator])
    operator_id, login = new_id("stf"), plain_login(operator.login)
    sealed = seal_operator(keyring, operator_id, private_part(operator))
    added = await queries.add_operator(
        db,
        id=operator_id,
        login=login,
        password_hash=operator.password_hash,
        key_version=sealed.key_version,
        box=sealed.box,
        store_id=operator.store_id,
        merchant_id=operator.merchant_id,
        now=now,
    )
    if added is None:
        raise LoginTaken
    names = tuple(sorted(set(operator.roles)))
    await queries.add_operator_roles(db, operator_id=operator_id, roles=names)
    await _note(db, actor_id, "operator.added", operator_id, ", ".join(names), now)
    return Operator(
        id=operator_id,
        login=login,
        sealed=sealed,
        status=Status.ACTIVE,
        store_id=operator.store_id,
        merchant_id=operator.merchant_id,
        roles=names,
        created_at=now,
    )


async def operators(db: Db, operator_ids: Sequence[str]) -> dict[str, Operator]:
    """Operators by id; unknown ids are left out."""
    rows = await queries.find_operators(db, ids=operator_ids)
    return {row["id"]: operator_from(row) for row in rows}


async def list_operators(db: Db, *, before: str | None = None, limit: int) -> list[Operator]:
    """Operators, newest first."""
    rows = await queries.list_operators(db, before=before, limit=limit)
    return [operator_from(row) for row in rows]


async def set_operator_status(
    db: Db, *, operator_id: str, status: Status, actor_id: str, reason: str, now: datetime
) -> None:
    """Suspend or reinstate an operator; suspension ends their sessions. Raises `NotFound`, `NotYourself`."""
    if operator_id == actor_id:
        raise NotYourself
    if await queries.set_operator_status(db, id=operator_id, status=status) is None:
        raise NotFound
    if status is Status.SUSPENDED:
        await end_sessions(db, [operator_id], now=now)
    await _note(db, actor_id, f"operator.{status}", operator_id, reason, now)


async def reset_credentials(
    db: Db,
    keyring: Keyring,
    *,
    operator_id: str,
    password_hash: str,
    actor_id: str,
    reason: str,
    now: datetime,
) -> tuple[Operator, str]:
    """Give an operator another password and TOTP secret, and end their sessions; returns the new secret.

    Raises `NotFound`, `NotYourself`.
    """
    if operator_id == actor_id:
        raise NotYourself
    operator = (await operators(db, [operator_id])).get(operator_id)
    if operator is None:
        raise NotFound
    private = msgspec.structs.replace(
        open_operator(keyring, operator_id, operator.sealed), totp_secret=new_totp_secret()
    )
    sealed = seal_operator(keyring, operator_id, private)
    await queries.set_credentials(
        db, id=operator_id, password_hash=password_hash, key_version=sealed.key_version, box=sealed.box
    )
    await end_sessions(db, [operator_id], now=now)
    await _note(db, actor_id, "operator.credentials_reset", operator_id, reason, now)
    return msgspec.structs.replace(operator, sealed=sealed), private.totp_secret


async def _note(db: Db, actor_id: str, action: str, subject: str, reason: str, now: datetime) -> None:
    await audit(db, [AuditEntry(actor_id=actor_id, action=action, subject=subject, reason=reason)], now=now)
