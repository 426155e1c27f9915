"""Staff: login, password and one-time password; what roles grant; the audit trail."""

import asyncio
from datetime import timedelta
from statistics import median
from time import perf_counter

import asyncpg
import pytest
from argon2 import PasswordHasher
from factories.identity import ADDRESS, CHEAP, HASH, PASSWORD, TOTP_SECRET, dump, operator, totp

from quanhui import customers, staff
from quanhui.base import tokens
from quanhui.base.access import ActorKind, Scope
from quanhui.base.db import Db, Pool, in_transaction, transaction
from quanhui.base.errors import NotFound, TooManyAttempts
from quanhui.staff.errors import LoginTaken, NotYourself, RoleNeedsPlace, UnknownRole
from quanhui.staff.totp import totp_step

PASSWORDS = staff.Passwords(CHEAP)
STEP = timedelta(seconds=30)
MINUTE = timedelta(minutes=1)


async def try_in(db: Db, keyring, now, *, login="wang", password=PASSWORD, code=None, passwords=PASSWORDS):
    candidate = await staff.begin_sign_in(db, keyring, login=login, address=ADDRESS, now=now)
    proof = await staff.prove(passwords, candidate, password=password, totp_code=code or totp(now), now=now)
    return proof and await staff.finish_sign_in(db, proof, device_id=None, now=now)


async def enrolled(db: Db, keyring, now, *roles: str, **places: str) -> str:
    return (await staff.enrol(db, keyring, [operator("wang", *roles, **places)], now=now))[0]


async def test_login_password_and_one_time_password_open_a_session(db: Db, keyring, now):
    operator_id = await enrolled(db, keyring, now, "desk_clerk", store_id="sto_1")
    session = await try_in(db, keyring, now, login=" WANG")
    actor = await staff.authenticate_session(db, session.token, now)
    assert (actor.kind, actor.id, actor.store_id) == (ActorKind.STAFF, operator_id, "sto_1")
    assert actor.reach("redemption.redeem") is Scope.STORE
    assert actor.reach("staff.manage") is None


@pytest.mark.parametrize("wrong", [{"password": "x" * 12}, {"code": "000000"}, {"login": "nobody"}])
async def test_whatever_is_wrong_the_answer_is_no(db: Db, keyring, now, wrong):
    assert totp(now) != "000000"
    await enrolled(db, keyring, now)
    assert await try_in(db, keyring, now, **wrong) is None


async def test_a_one_time_password_works_once(db: Db, keyring, now):
    await enrolled(db, keyring, now)
    assert await try_in(db, keyring, now)
    assert await try_in(db, keyring, now) is None
    assert await try_in(db, keyring, now, code=totp(now, steps=-1)) is None
    assert await try_in(db, keyring, now + STEP)


async def test_of_two_who_come_with_one_one_time_password_one_gets_in(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        await enrolled(db, keyring, now)
        candidate = await staff.begin_sign_in(db, keyring, login="wang", address=ADDRESS, now=now)
    proof = await staff.prove(PASSWORDS, candidate, password=PASSWORD, totp_code=totp(now), now=now)

    async def finish(db: Db) -> object:
        return await staff.finish_sign_in(db, proof, device_id=None, now=now)

    came = await asyncio.gather(*(in_transaction(pool, finish) for _ in range(5)))
    assert sum(session is not None for session in came) == 1


@pytest.mark.parametrize(("steps", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_one_step_off(now, steps, good):
    assert (totp_step(TOTP_SECRET, totp(now, steps=steps), after=0, now=now) is not None) is good


def test_one_time_passwords_are_those_of_rfc_6238(now):
    # Appendix B, SHA-1, the last six of the eight digits; the secret is "12345678901234567890".
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        at = now.fromtimestamp(seconds, now.tzinfo)
        assert totp_step(secret, code, after=0, now=at) == seconds // 30


async def test_five_tries_lock_a_login_for_ever_longer(db: Db, keyring, now):
    await enrolled(db, keyring, now)
    at, waits = now, []
    for _ in range(3):
        for _ in range(5):
            assert await try_in(db, keyring, at, password="wrong") is None
        with pytest.raises(TooManyAttempts) as refused:
            async with db.transaction():
                await try_in(db, keyring, at)
        waits.append(refused.value.facts["retry_after_s"])
        at += timedelta(seconds=waits[-1])
    assert waits == [60, 120, 240]


async def test_an_unknown_login_is_locked_like_a_known_one(db: Db, keyring, now):
    await enrolled(db, keyring, now)
    told = []
    for login in ("wang", "nobody"):
        answers = [await try_in(db, keyring, now, login=login, password="wrong") for _ in range(5)]
        with pytest.raises(TooManyAttempts) as refused:
            async with db.transaction():
                await try_in(db, keyring, now, login=login)
        told.append((answers, refused.value.facts))
    assert told[0] == told[1]


async def test_an_unknown_login_takes_as_long_as_a_wrong_password(db: Db, keyring, now):
    slow = PasswordHasher(time_cost=2, memory_cost=8192, parallelism=1)
    passwords = staff.Passwords(slow)
    row = operator()
    known = staff.NewOperator(
        login="wang",
        name=row.name,
        password_hash=slow.hash(PASSWORD),
        totp_secret=TOTP_SECRET,
        roles=("finance",),
    )
    await staff.enrol(db, keyring, [known], now=now)
    took = {}
    for login in ("wang", "nobody"):
        times = []
        for n in range(9):
            at = now + n * timedelta(hours=2)
            start = perf_counter()
            await try_in(db, keyring, at, login=login, password="wrong", passwords=passwords)
            times.append(perf_counter() - start)
        took[login] = median(times)
    assert took["nobody"] > took["wang"] / 2


async def test_a_success_forgives_the_tries_before_it(db: Db, keyring, now):
    await enrolled(db, keyring, now)
    for n in range(3):
        for _ in range(4):
            await try_in(db, keyring, now + n * STEP, password="wrong")
        assert await try_in(db, keyring, now + n * STEP)


async def test_attempts_are_limited_for_an_address_whatever_the_login(db: Db, keyring, now):
    for n in range(60):
        await staff.begin_sign_in(db, keyring, login=f"guess-{n}", address=ADDRESS, now=now)
    with pytest.raises(TooManyAttempts):
        await staff.begin_sign_in(db, keyring, login="guess-60", address=ADDRESS, now=now)


async def test_a_suspended_operator_is_out_at_once_and_stays_out(db: Db, keyring, now):
    operator_id = await enrolled(db, keyring, now)
    token = (await try_in(db, keyring, now)).token
    change = {"operator_id": operator_id, "actor_id": "stf_boss", "reason": "left", "now": now}
    await staff.set_operator_status(db, status=staff.Status.SUSPENDED, **change)
    assert await staff.authenticate_session(db, token, now) is None
    assert await try_in(db, keyring, now + STEP) is None
    await staff.set_operator_status(db, status=staff.Status.ACTIVE, **change)
    assert await staff.authenticate_session(db, token, now) is None
    assert await try_in(db, keyring, now + 2 * STEP)


async def test_a_sign_in_under_way_does_not_survive_a_suspension(db: Db, keyring, now):
    operator_id = await enrolled(db, keyring, now)
    candidate = await staff.begin_sign_in(db, keyring, login="wang", address=ADDRESS, now=now)
    proof = await staff.prove(PASSWORDS, candidate, password=PASSWORD, totp_code=totp(now), now=now)
    await staff.set_operator_status(
        db,
        operator_id=operator_id,
        status=staff.Status.SUSPENDED,
        actor_id="stf_boss",
        reason="left",
        now=now,
    )
    assert await staff.finish_sign_in(db, proof, device_id=None, now=now) is None


async def test_a_session_opened_while_its_owner_was_being_suspended_is_dead_too(db: Db, keyring, now):
    await enrolled(db, keyring, now)
    token = (await try_in(db, keyring, now)).token
    await db.execute("UPDATE staff.operator SET status = 'suspended'")
    assert await staff.authenticate_session(db, token, now) is None


async def test_a_sign_in_under_way_does_not_survive_new_credentials(db: Db, keyring, now):
    operator_id = await enrolled(db, keyring, now)
    candidate = await staff.begin_sign_in(db, keyring, login="wang", address=ADDRESS, now=now)
    proof = await staff.prove(PASSWORDS, candidate, password=PASSWORD, totp_code=totp(now), now=now)
    await staff.reset_credentials(
        db,
        keyring,
        operator_id=operator_id,
        password_hash=CHEAP.hash("another long password"),
        actor_id="stf_boss",
        reason="stolen",
        now=now,
    )
    assert await staff.finish_sign_in(db, proof, device_id=None, now=now) is None


async def test_new_credentials_end_the_old_ones(db: Db, keyring, now):
    operator_id = await enrolled(db, keyring, now)
    token = (await try_in(db, keyring, now)).token
    changed, secret = await staff.reset_credentials(
        db,
        keyring,
        operator_id=operator_id,
        password_hash=CHEAP.hash("another long password"),
        actor_id="stf_boss",
        reason="lost phone",
        now=now,
    )
    assert changed.login == "wang"
    assert secret != TOTP_SECRET
    assert await staff.authenticate_session(db, token, now) is None
    assert await try_in(db, keyring, now + STEP) is None


async def test_a_staff_session_ends_after_a_shift(db: Db, keyring, now):
    await enrolled(db, keyring, now)
    token = (await try_in(db, keyring, now)).token
    assert await staff.authenticate_session(db, token, now + timedelta(hours=12, seconds=-1))
    assert await staff.authenticate_session(db, token, now + timedelta(hours=12)) is None


async def test_tokens_of_customers_and_staff_do_not_pass_for_each_other(db: Db, keyring, now):
    operator_id = await enrolled(db, keyring, now)
    theirs = {
        kind: await tokens.open_session(
            db, kind=kind, actor_id=operator_id, device_id=None, lifetime=MINUTE, now=now
        )
        for kind in (ActorKind.CUSTOMER, ActorKind.STAFF)
    }
    assert await customers.authenticate(db, theirs[ActorKind.STAFF].token, now) is None
    assert await staff.authenticate_session(db, theirs[ActorKind.CUSTOMER].token, now) is None
    assert {kind: tokens.kind_of(session.token) for kind, session in theirs.items()} == {
        kind: kind for kind in theirs
    }


async def test_an_operator_has_the_grants_of_all_their_roles(db: Db, keyring, now):
    await enrolled(db, keyring, now, "desk_clerk", "auditor", store_id="sto_1")
    actor = await staff.authenticate_session(db, (await try_in(db, keyring, now)).token, now)
    assert actor.reach("buyback.read") is Scope.ALL
    assert actor.reach("redemption.redeem") is Scope.STORE


async def test_a_role_that_reaches_a_place_needs_one(db: Db, keyring, now):
    for role in ("desk_clerk", "store_manager", "merchant_operator"):
        with pytest.raises(RoleNeedsPlace):
            await staff.add_operator(db, keyring, operator("li", role), actor_id="stf_boss", now=now)
        with pytest.raises(RoleNeedsPlace):
            await staff.enrol(db, keyring, [operator("li", role)], now=now)


@pytest.mark.parametrize("role", ["customer", "partner", "king"])
async def test_staff_hold_only_roles_for_staff(db: Db, keyring, now, role):
    with pytest.raises(UnknownRole):
        await staff.add_operator(db, keyring, operator("li", role), actor_id="stf_boss", now=now)


async def test_a_login_belongs_to_one_operator(db: Db, keyring, now):
    await enrolled(db, keyring, now)
    with pytest.raises(LoginTaken):
        await staff.add_operator(db, keyring, operator("WANG"), actor_id="stf_boss", now=now)


async def test_nobody_suspends_themselves_or_someone_who_is_not_there(db: Db, keyring, now):
    suspend = {"status": staff.Status.SUSPENDED, "actor_id": "stf_me", "reason": "r", "now": now}
    with pytest.raises(NotYourself):
        await staff.set_operator_status(db, operator_id="stf_me", **suspend)
    with pytest.raises(NotFound):
        await staff.set_operator_status(db, operator_id="stf_none", **suspend)
    reset = {"password_hash": HASH, "actor_id": "stf_me", "reason": "r", "now": now}
    with pytest.raises(NotYourself):
        await staff.reset_credentials(db, keyring, operator_id="stf_me", **reset)
    with pytest.raises(NotFound):
        await staff.reset_credentials(db, keyring, operator_id="stf_none", **reset)


async def test_neither_names_nor_secrets_of_staff_are_stored_in_the_clear(db: Db, keyring, now):
    added = await staff.add_operator(db, keyring, operator("li"), actor_id="stf_boss", now=now)
    stored = await dump(db)
    assert added.id in stored
    for secret in ("王守一", TOTP_SECRET, PASSWORD):
        assert secret not in stored
        assert secret.encode().hex() not in stored


async def test_the_audit_trail_tells_who_did_what_to_whom_and_why(db: Db, keyring, now):
    added = await staff.add_operator(db, keyring, operator("li", "finance"), actor_id="stf_boss", now=now)
    later = now + MINUTE
    await staff.set_operator_status(
        db,
        operator_id=added.id,
        status=staff.Status.SUSPENDED,
        actor_id="stf_boss",
        reason="left us",
        now=later,
    )
    trail = await staff.audit_trail(db, subject=added.id, limit=9)
    assert [(r.actor_id, r.action, r.reason, r.at) for r in trail] == [
        ("stf_boss", "operator.suspended", "left us", later),
        ("stf_boss", "operator.added", "finance", now),
    ]
    older = await staff.audit_trail(db, actor_id="stf_boss", before=trail[0].id, limit=9)
    assert older == trail[1:]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE staff.audit_entry SET reason = 'another'",
        "DELETE FROM staff.audit_entry",
        "TRUNCATE staff.audit_entry",
    ],
)
async def test_the_audit_trail_only_grows(db: Db, now, statement):
    entry = staff.AuditEntry(actor_id="stf_1", action="voucher.frozen", subject="vch_1", reason="case 7")
    await staff.audit(db, [entry], now=now)
    with pytest.raises(asyncpg.RaiseError, match="only ever added"):
        await db.execute(statement)
