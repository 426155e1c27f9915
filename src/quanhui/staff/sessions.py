"""Signing in with login, password and one-time password, in three steps.

`begin_sign_in` counts the attempt and fetches what it takes to judge it; `prove` judges, with no transaction
open, because a password hash is slow on purpose; `finish_sign_in` spends the one-time password and opens the
session. Every refusal takes the first two steps and no third, whatever was wrong.
"""

from datetime import datetime

import msgspec

from quanhui.base import attempts
from quanhui.base.access import Actor, ActorKind, gather_grants
from quanhui.base.db import Db
from quanhui.base.keyring import Keyring, Sealed
from quanhui.base.tokens import OpenedSession, hash_token, open_session
from quanhui.staff.actions import audit
from quanhui.staff.passwords import Passwords
from quanhui.staff.rules import (
    SESSION_LIFETIME,
    SIGN_INS_PER_ADDRESS,
    SIGN_INS_PER_LOGIN,
    AuditEntry,
    open_operator,
    plain_login,
)
from quanhui.staff.store import queries
from quanhui.staff.totp import DECOY_SECRET, totp_step


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants in. For an unknown or suspended login the id and the hash are None. Prints no secret."""

    login_key: bytes
    operator_id: str | None
    password_hash: str | None
    totp_secret: str
    last_totp_step: int

    def __repr__(self) -> str:
        return f"Candidate(operator_id={self.operator_id!r})"


class Proof(msgspec.Struct, frozen=True):
    """A right password with an unspent one-time password: the operator, and what is about to be spent."""

    operator_id: str
    password_hash: str
    totp_step: int
    login_key: bytes

    def __repr__(self) -> str:
        return f"Proof(operator_id={self.operator_id!r})"


async def begin_sign_in(db: Db, keyring: Keyring, *, login: str, address: bytes, now: datetime) -> Candidate:
    """Count an attempt for the login and the address. Raises `TooManyAttempts`. Commit before judging."""
    login = plain_login(login)
    login_key = keyring.fingerprint("login", login)
    await attempts.count(db, [(SIGN_INS_PER_LOGIN, login_key), (SIGN_INS_PER_ADDRESS, address)], now=now)
    row = await queries.find_login(db, login=login)
    if row is None:
        return Candidate(
            login_key=login_key,
            operator_id=None,
            password_hash=None,
            totp_secret=DECOY_SECRET,
            last_totp_step=0,
        )
    return Candidate(
        login_key=login_key,
        operator_id=row["id"],
        password_hash=row["password_hash"],
        totp_secret=open_operator(keyring, row["id"], Sealed(row["key_version"], row["box"])).totp_secret,
        last_totp_step=row["last_totp_step"],
    )


async def prove(
    passwords: Passwords, candidate: Candidate, *, password: str, totp_code: str, now: datetime
) -> Proof | None:
    """Judge both passwords, always both, so that the time taken does not tell which was wrong."""
    fits = await passwords.fits(candidate.password_hash, password)
    step = totp_step(candidate.totp_secret, totp_code, after=candidate.last_totp_step, now=now)
    if not fits or step is None or candidate.operator_id is None or candidate.password_hash is None:
        return None
    return Proof(candidate.operator_id, candidate.password_hash, step, candidate.login_key)


async def finish_sign_in(
    db: Db, proof: Proof, *, device_id: str | None, now: datetime
) -> OpenedSession | None:
    """Spend the one-time password and open a session; None when someone spent it first.

    Also None when the account was suspended or got another password since the attempt began.
    """
    spent = await queries.spend_totp_step(
        db, id=proof.operator_id, step=proof.totp_step, password_hash=proof.password_hash
    )
    if spent is None:
        return None
    await attempts.forgive(db, SIGN_INS_PER_LOGIN, proof.login_key)
    session = await open_session(
        db,
        kind=ActorKind.STAFF,
        actor_id=proof.operator_id,
        device_id=device_id,
        lifetime=SESSION_LIFETIME,
        now=now,
    )
    entry = AuditEntry(
        actor_id=proof.operator_id, action="staff.sign_in", subject=session.id, reason="sign-in"
    )
    await audit(db, [entry], now=now)
    return session


async def authenticate_session(db: Db, token: str, now: datetime) -> Actor | None:
    """Who holds a staff token (`ss_…`), in one round trip; None when it is unknown, over or revoked."""
    row = await queries.find_actor(db, token_hash=hash_token(token), now=now)
    if row is None:
        return None
    pairs = zip(row["permissions"], row["scopes"], strict=True)
    return Actor(
        kind=ActorKind.STAFF,
        id=row["id"],
        grants=gather_grants(pairs, store_id=row["store_id"], merchant_id=row["merchant_id"]),
        session_id=row["session_id"],
        store_id=row["store_id"],
        merchant_id=row["merchant_id"],
    )
