"""Signing in by a code sent to a phone, and finding out who calls.

Asking for a code and trying one are counted in the transaction they happen in. A wrong code is an answer,
not an exception: the caller commits, so that the try stays counted, and then refuses.
"""

import base64
from datetime import datetime

import msgspec

from quanhui.base import attempts
from quanhui.base.access import Actor, ActorKind, gather_grants
from quanhui.base.db import Db
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring, Sealed
from quanhui.base.outbox import Fact, emit
from quanhui.base.tokens import OpenedSession, hash_token, open_session
from quanhui.customers.actions import admit_customers
from quanhui.customers.rules import (
    CODE_TRIES,
    CODE_TTL,
    CODES_PER_ADDRESS,
    CODES_PER_DEVICE,
    CODES_PER_PHONE,
    CODES_PER_PHONE_MINUTE,
    SESSION_LIFETIME,
    SIGN_INS_PER_ADDRESS,
    Status,
    code_mac,
    code_matches,
    new_code,
    phone_fingerprint,
)
from quanhui.customers.store import queries

CODE_REQUESTED = "customers.code_requested"


class CodeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A code on its way to a phone; it travels sealed. Prints nothing of it."""

    phone: str
    code: str

    def __repr__(self) -> str:
        return "CodeMessage(***)"


async def request_code(
    db: Db, keyring: Keyring, *, phone: str, device_id: str | None, address: bytes, now: datetime
) -> None:
    """Make a code for a phone number, known or not, and have it sent (fact `customers.code_requested`).

    `address` is the keyed fingerprint of where the request came from. Raises `TooManyAttempts`.
    """
    found_by = phone_fingerprint(keyring, phone)
    limits = [
        (CODES_PER_PHONE_MINUTE, found_by),
        (CODES_PER_PHONE, found_by),
        (CODES_PER_ADDRESS, address),
    ]
    if device_id is not None:
        limits.append((CODES_PER_DEVICE, keyring.fingerprint("device", device_id)))
    await attempts.count(db, limits, now=now)
    code_id, code = new_id("cod"), new_code()
    expires_at = now + CODE_TTL
    await queries.put_code(
        db,
        phone_fingerprint=found_by,
        id=code_id,
        code_mac=code_mac(keyring, code_id, code),
        expires_at=expires_at,
    )
    message = msgspec.json.encode(CodeMessage(phone=phone, code=code)).decode()
    sealed = keyring.seal(message, context=code_id)
    payload = {
        "key_version": sealed.key_version,
        "box": base64.b64encode(sealed.box).decode(),
        "expires_at": expires_at.isoformat(),
    }
    await emit(db, [Fact(CODE_REQUESTED, code_id, payload)], now=now)


def open_code_message(keyring: Keyring, code_id: str, payload: dict[str, object]) -> CodeMessage:
    """Open the message that a `customers.code_requested` fact carries."""
    sealed = Sealed(
        msgspec.convert(payload["key_version"], int), base64.b64decode(msgspec.convert(payload["box"], str))
    )
    return msgspec.json.decode(keyring.open(sealed, context=code_id), type=CodeMessage)


async def sign_in(
    db: Db,
    keyring: Keyring,
    *,
    phone: str,
    code: str,
    device_id: str | None,
    address: bytes,
    now: datetime,
) -> OpenedSession | None:
    """Spend a code and open a session; the first time opens the account too.

    None when the code is wrong, late, used or tried too often, or the account is suspended. Commit in
    either case: a wrong try counts. Raises `TooManyAttempts` for the address.
    """
    await attempts.count(db, [(SIGN_INS_PER_ADDRESS, address)], now=now)
    found_by = phone_fingerprint(keyring, phone)
    live = await queries.try_code(db, phone_fingerprint=found_by, most_tries=CODE_TRIES, now=now)
    if live is None or not code_matches(keyring, live["id"], code, live["code_mac"]):
        return None
    await queries.spend_code(db, phone_fingerprint=found_by)
    customer = (await admit_customers(db, keyring, [phone], now=now))[phone]
    if customer.status is not Status.ACTIVE:
        return None
    return await open_session(
        db,
        kind=ActorKind.CUSTOMER,
        actor_id=customer.id,
        device_id=device_id,
        lifetime=SESSION_LIFETIME,
        now=now,
    )


async def act_for(
    db: Db, *, customer_id: str, enterprise_id: str, device_id: str | None, now: datetime
) -> OpenedSession | None:
    """Open a session in which a member acts for their enterprise; None unless they are one of its members."""
    if not await queries.is_member(db, enterprise_id=enterprise_id, customer_id=customer_id):
        return None
    return await open_session(
        db,
        kind=ActorKind.CUSTOMER,
        actor_id=customer_id,
        acts_for=enterprise_id,
        device_id=device_id,
        lifetime=SESSION_LIFETIME,
        now=now,
    )


async def authenticate(db: Db, token: str, now: datetime) -> Actor | None:
    """Who holds a customer's token (`cs_…`), in one round trip; None when it is unknown, over or revoked.

    A suspended customer or enterprise, and a member who left, are refused from the next request on.
    """
    row = await queries.find_actor(db, token_hash=hash_token(token), now=now)
    if row is None:
        return None
    pairs = zip(row["permissions"], row["scopes"], strict=True)
    return Actor(
        kind=ActorKind.CUSTOMER,
        id=row["id"],
        grants=gather_grants(pairs, enterprise_id=row["acts_for"]),
        session_id=row["session_id"],
        enterprise_id=row["acts_for"],
    )


async def forget_codes(db: Db, *, now: datetime) -> int:
    """Remove codes that ran out unused; returns how many."""
    removed: int = await queries.forget_codes(db, before=now)
    return removed
