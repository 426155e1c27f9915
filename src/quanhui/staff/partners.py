"""Partners: programs that sign each request (`base/signing.py`) with a secret shown to them once.

A request names its key in the header `quanhui-key` and carries the three Standard Webhooks headers; what is
signed begins with `METHOD path`, so a signature fits one call. A message id works once per key: kept for as
long as its timestamp could still pass, it makes a replay an unknown caller.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from quanhui.base import signing
from quanhui.base.access import Actor, ActorKind, gather_grants
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring, Sealed
from quanhui.staff.actions import audit
from quanhui.staff.errors import PartnerBelongsNowhere
from quanhui.staff.rules import (
    AuditEntry,
    Partner,
    PartnerKey,
    Status,
    is_message_id,
    new_partner_secret,
)
from quanhui.staff.store import queries

KEY_HEADER = "quanhui-key"
_DECOY_SECRET = bytes(32)


async def add_partner(
    db: Db,
    keyring: Keyring,
    *,
    name: str,
    enterprise_id: str | None,
    merchant_id: str | None,
    actor_id: str,
    now: datetime,
) -> PartnerKey:
    """Add a partner with its first key, whose secret is shown this once. Raises `PartnerBelongsNowhere`."""
    if enterprise_id is None and merchant_id is None:
        raise PartnerBelongsNowhere
    partner_id = new_id("ptn")
    await queries.add_partner(
        db, id=partner_id, name=name, enterprise_id=enterprise_id, merchant_id=merchant_id, now=now
    )
    return await add_partner_key(db, keyring, partner_id=partner_id, actor_id=actor_id, now=now)


async def add_partner_key(
    db: Db, keyring: Keyring, *, partner_id: str, actor_id: str, now: datetime
) -> PartnerKey:
    """A further key, to change over without a break. Raises `NotFound`."""
    key = PartnerKey(partner_id=partner_id, key_id=new_id("pky"), secret=new_partner_secret())
    sealed = keyring.seal(key.secret, context=key.key_id)
    added = await queries.add_partner_key(
        db, id=key.key_id, partner_id=partner_id, key_version=sealed.key_version, box=sealed.box, now=now
    )
    if added is None:
        raise NotFound
    await _note(db, actor_id, "partner.key_added", key.key_id, f"for {partner_id}", now)
    return key


async def revoke_partner_key(
    db: Db, *, partner_id: str, key_id: str, actor_id: str, reason: str, now: datetime
) -> None:
    """End a key at once. Raises `NotFound`."""
    if await queries.revoke_partner_key(db, id=key_id, partner_id=partner_id, now=now) is None:
        raise NotFound
    await _note(db, actor_id, "partner.key_revoked", key_id, reason, now)


async def set_partner_status(
    db: Db, *, partner_id: str, status: Status, actor_id: str, reason: str, now: datetime
) -> None:
    """Suspend or reinstate a partner with all its keys. Raises `NotFound`."""
    if await queries.set_partner_status(db, id=partner_id, status=status) is None:
        raise NotFound
    await _note(db, actor_id, f"partner.{status}", partner_id, reason, now)


async def list_partners(db: Db, *, before: str | None = None, limit: int) -> Sequence[Partner]:
    """Partners, newest first."""
    rows = await queries.list_partners(db, before=before, limit=limit)
    return [
        Partner(
            id=row["id"],
            name=row["name"],
            enterprise_id=row["enterprise_id"],
            merchant_id=row["merchant_id"],
            status=Status(row["status"]),
            created_at=row["created_at"],
        )
        for row in rows
    ]


async def authenticate_partner(
    db: Db, keyring: Keyring, headers: Mapping[str, str], *, target: str, body: bytes, now: datetime
) -> Actor | None:
    """Who signed this request; None for an unknown key, a bad or old signature, or a message seen before.

    `target` is `METHOD path`, with the query string where there is one; `headers` have lower-case names.
    Two round trips: the key, then the message id, which must be committed before the request is served.
    """
    key_id = headers.get(KEY_HEADER, "")
    row = await queries.find_partner_key(db, key_id=key_id)
    secret = _DECOY_SECRET
    if row is not None:
        secret = keyring.open(Sealed(row["key_version"], row["box"]), context=key_id).encode()
    try:
        message_id = signing.verify(secret, headers, now=now, body=body, target=target)
    except signing.BadSignature:
        return None
    if row is None or not is_message_id(message_id):
        return None
    if await queries.use_message(db, key_id=key_id, message_id=message_id, now=now) is None:
        return None
    pairs = zip(row["permissions"], row["scopes"], strict=True)
    return Actor(
        kind=ActorKind.PARTNER,
        id=row["id"],
        grants=gather_grants(pairs, merchant_id=row["merchant_id"], enterprise_id=row["enterprise_id"]),
        merchant_id=row["merchant_id"],
        enterprise_id=row["enterprise_id"],
    )


async def forget_messages(db: Db, *, now: datetime) -> int:
    """Remove message ids that no signature could bring back; returns how many.

    A signature passes from one `MAX_AGE` before its timestamp to one after it: two in all.
    """
    removed: int = await queries.forget_messages(db, before=now - 2 * signing.MAX_AGE)
    return removed


async def _note(db: Db, actor_id: str, action: str, subject: str, reason: str, now: datetime) -> None:
    await audit(db, [AuditEntry(actor_id=actor_id, action=action, subject=subject, reason=reason)], now=now)
