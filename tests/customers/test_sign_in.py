"""Signing in by phone code, sessions, and the sending of codes."""

import asyncio
import time
from datetime import timedelta

import pytest
from factories.identity import ADDRESS, customer, dump
from fakes.outside import SECRET, start_sandbox

from quanhui import customers
from quanhui.base import outbox, tokens
from quanhui.base.access import ActorKind, Scope
from quanhui.base.db import Db, Pool, in_transaction, transaction
from quanhui.base.errors import TooManyAttempts
from quanhui.base.http import NoAnswer, SignedClient, open_client
from quanhui.customers import sessions

PHONE = "13800138000"
MINUTE = timedelta(minutes=1)


async def ask(db: Db, keyring, now, *, phone=PHONE, device="phone-1", address=ADDRESS) -> outbox.Job:
    """Ask for a code; returns the job that carries it."""
    await outbox.set_routes(db, [(customers.CODE_REQUESTED, "send_sign_in_codes")])
    await customers.request_code(db, keyring, phone=phone, device_id=device, address=address, now=now)
    batch = await outbox.take(db, "send_sign_in_codes", limit=1, now=now)
    await batch.done(db)
    return batch.jobs[0]


async def ask_code(db: Db, keyring, now, **who) -> str:
    job = await ask(db, keyring, now, **who)
    return sessions.open_code_message(keyring, job.subject, job.payload).code


async def enter(db: Db, keyring, code, now, *, phone=PHONE) -> tokens.OpenedSession | None:
    return await customers.sign_in(
        db, keyring, phone=phone, code=code, device_id="phone-1", address=ADDRESS, now=now
    )


async def signed_in(db: Db, keyring, now) -> str:
    session = await enter(db, keyring, await ask_code(db, keyring, now), now)
    return session.token


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


async def test_a_code_opens_an_account_the_first_time_and_the_same_one_later(db: Db, keyring, now):
    first = await customers.authenticate(db, await signed_in(db, keyring, now), now)
    later = now + timedelta(days=1)
    second = await customers.authenticate(db, await signed_in(db, keyring, later), later)
    assert first.id == second.id
    assert first.kind is ActorKind.CUSTOMER
    assert first.grants["buyback.sell"] is Scope.OWN
    assert first.session_id != second.session_id


async def test_a_code_works_once(db: Db, keyring, now):
    code = await ask_code(db, keyring, now)
    assert await enter(db, keyring, code, now)
    assert await enter(db, keyring, code, now) is None


async def test_of_two_who_come_with_one_code_one_gets_in(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        code = await ask_code(db, keyring, now)
    came = await asyncio.gather(
        *(in_transaction(pool, lambda db: enter(db, keyring, code, now)) for _ in range(5))
    )
    assert sum(session is not None for session in came) == 1


async def test_after_five_wrong_tries_the_right_code_is_refused_too(db: Db, keyring, now):
    code = await ask_code(db, keyring, now)
    for _ in range(5):
        assert await enter(db, keyring, other_than(code), now) is None
    assert await enter(db, keyring, code, now) is None


async def test_the_fifth_try_may_still_be_right(db: Db, keyring, now):
    code = await ask_code(db, keyring, now)
    for _ in range(4):
        await enter(db, keyring, other_than(code), now)
    assert await enter(db, keyring, code, now)


async def test_a_code_is_refused_after_five_minutes(db: Db, keyring, now):
    code = await ask_code(db, keyring, now)
    assert await enter(db, keyring, code, now + 5 * MINUTE) is None


async def test_a_new_code_ends_the_one_before(db: Db, keyring, now):
    old = await ask_code(db, keyring, now)
    new = await ask_code(db, keyring, now + MINUTE)
    if old != new:
        assert await enter(db, keyring, old, now + MINUTE) is None
    assert await enter(db, keyring, new, now + MINUTE)


async def test_a_code_for_one_phone_opens_no_other(db: Db, keyring, now):
    code = await ask_code(db, keyring, now)
    assert await enter(db, keyring, code, now, phone="13900139000") is None


async def test_codes_are_limited_for_a_phone_a_minute_and_an_hour(db: Db, keyring, now):
    await ask(db, keyring, now)
    with pytest.raises(TooManyAttempts) as refused:
        await ask(db, keyring, now + MINUTE / 2)
    assert refused.value.facts == {"retry_after_s": 30}
    for minute in range(1, 5):
        await ask(db, keyring, now + minute * MINUTE)
    with pytest.raises(TooManyAttempts):
        await ask(db, keyring, now + 6 * MINUTE)


async def test_codes_are_limited_for_a_device_whatever_the_phone(db: Db, keyring, now):
    for last in range(10):
        await ask(db, keyring, now, phone=f"1380013800{last}")
    with pytest.raises(TooManyAttempts):
        await ask(db, keyring, now, phone="13900139000")
    await ask(db, keyring, now, phone="13900139000", device="phone-2")


async def test_codes_are_limited_for_an_address_whatever_the_device(db: Db, keyring, now):
    for n in range(300):
        await customers.request_code(
            db, keyring, phone=f"13800138{n:03}", device_id=f"d{n}", address=ADDRESS, now=now
        )
    with pytest.raises(TooManyAttempts):
        await ask(db, keyring, now, phone="13900139000", device="fresh")


async def test_neither_code_nor_phone_nor_token_is_stored_in_the_clear(db: Db, keyring, now):
    code = await ask_code(db, keyring, now)
    before = await dump(db)
    token = (await enter(db, keyring, code, now)).token
    after = await dump(db)
    for secret in (PHONE, f'"{code}"', token):
        for text in (before, after):
            assert secret not in text
            assert secret.encode().hex() not in text


async def test_a_revoked_session_is_dead_at_once(db: Db, keyring, now):
    token = await signed_in(db, keyring, now)
    actor = await customers.authenticate(db, token, now)
    await tokens.end_session(db, actor.session_id, now=now)
    assert await customers.authenticate(db, token, now) is None


async def test_signing_out_everywhere_ends_every_session_and_no_one_elses(db: Db, keyring, now):
    mine = [await signed_in(db, keyring, now + n * MINUTE) for n in range(2)]
    code = await ask_code(db, keyring, now, phone="13900139000")
    theirs = (await enter(db, keyring, code, now, phone="13900139000")).token
    later = now + 2 * MINUTE
    actor = await customers.authenticate(db, mine[0], later)
    await tokens.end_sessions(db, [actor.id], now=later)
    assert [await customers.authenticate(db, token, later) for token in mine] == [None, None]
    assert await customers.authenticate(db, theirs, later)


async def test_a_session_ends_by_itself(db: Db, keyring, now):
    token = await signed_in(db, keyring, now)
    assert await customers.authenticate(db, token, now + timedelta(days=30, seconds=-1))
    assert await customers.authenticate(db, token, now + timedelta(days=30)) is None


async def test_an_eleventh_session_ends_the_oldest(db: Db, keyring, now):
    customer_id = await customer(db, keyring, now=now)
    opened = [
        await tokens.open_session(
            db,
            kind=ActorKind.CUSTOMER,
            actor_id=customer_id,
            device_id=None,
            lifetime=timedelta(days=1),
            now=now,
        )
        for _ in range(tokens.LIVE_SESSIONS + 1)
    ]
    alive = [bool(await customers.authenticate(db, session.token, now)) for session in opened]
    assert alive == [False] + [True] * tokens.LIVE_SESSIONS


async def test_a_suspended_customer_is_out_at_once_and_cannot_come_back_in(db: Db, keyring, now):
    token = await signed_in(db, keyring, now)
    actor = await customers.authenticate(db, token, now)
    later = now + MINUTE
    code = await ask_code(db, keyring, later)
    await customers.set_status(
        db, [actor.id], status=customers.Status.SUSPENDED, actor_id="stf_1", reason="fraud", now=later
    )
    assert await customers.authenticate(db, token, later) is None
    assert await enter(db, keyring, code, later) is None


async def test_a_session_opened_while_its_owner_was_being_suspended_is_dead_too(db: Db, keyring, now):
    token = await signed_in(db, keyring, now)
    await db.execute("UPDATE customers.customer SET status = 'suspended'")
    assert await customers.authenticate(db, token, now) is None


async def test_a_reinstated_customer_must_sign_in_again(db: Db, keyring, now):
    token = await signed_in(db, keyring, now)
    actor = await customers.authenticate(db, token, now)
    for status in (customers.Status.SUSPENDED, customers.Status.ACTIVE):
        await customers.set_status(db, [actor.id], status=status, actor_id="stf_1", reason="r", now=now)
    assert await customers.authenticate(db, token, now) is None
    assert await signed_in(db, keyring, now + MINUTE)


async def test_a_made_up_token_is_nobodys(db: Db, now):
    for token in ("cs_", "cs_" + "a" * 43, "", "ss_" + "a" * 43):
        assert await customers.authenticate(db, token, now) is None


async def test_last_use_is_kept_to_the_hour(db: Db, keyring, now):
    token = await signed_in(db, keyring, now)
    seen = []
    for minutes in (59, 61, 62):
        await customers.authenticate(db, token, now + minutes * MINUTE)
        seen.append(await db.fetchval("SELECT last_used_at FROM base.session"))
    assert seen == [now, now + 61 * MINUTE, now + 61 * MINUTE]


async def test_what_ran_out_is_swept(db: Db, keyring, now):
    await signed_in(db, keyring, now)
    await ask(db, keyring, now + MINUTE)
    assert await customers.forget_codes(db, now=now + 6 * MINUTE) == 0
    assert await customers.forget_codes(db, now=now + 7 * MINUTE) == 1
    assert await tokens.sweep(db, before=now + timedelta(days=30)) == 0
    assert await tokens.sweep(db, before=now + timedelta(days=31)) == 1


async def test_codes_are_sent_by_the_gateway_and_late_ones_are_not(db: Db, keyring, now, tmp_path):
    jobs = [await ask(db, keyring, now, phone=f"1380013800{n}") for n in range(3)]
    late = await ask(db, keyring, now - 10 * MINUTE, phone="13900139000")
    present = now.fromtimestamp(time.time(), now.tzinfo)  # the sandbox has a clock of its own
    shift = present - now
    for job in [*jobs, late]:
        expires_at = now.fromisoformat(job.payload["expires_at"]) + shift
        job.payload["expires_at"] = expires_at.isoformat()
    sandbox = start_sandbox("sms", tmp_path)
    try:
        async with open_client() as http:
            client = SignedClient(http, base_url=sandbox.url, party="sms", secret=SECRET)
            await customers.send_sign_in_codes(customers.SmsGateway(client), keyring, [*jobs, late], present)
        for n, job in enumerate(jobs):
            (message,) = sandbox.call(f"/control/messages?to=1380013800{n}")
            sent = sessions.open_code_message(keyring, job.subject, job.payload)
            assert message["params"] == {"code": sent.code, "minutes": "5"}
        assert sandbox.call("/control/messages?to=13900139000") == []
    finally:
        sandbox.stop()


async def test_a_gateway_that_does_not_answer_is_tried_again(db: Db, keyring, now):
    job = await ask(db, keyring, now)
    async with open_client() as http:
        client = SignedClient(http, base_url="http://127.0.0.1:9", party="sms", secret=SECRET)
        with pytest.raises(NoAnswer):
            await customers.send_sign_in_codes(customers.SmsGateway(client), keyring, [job], now)


async def test_the_role_table_decides_what_a_customer_may_do(db: Db, keyring, now):
    token = await signed_in(db, keyring, now)
    await db.execute("DELETE FROM base.role_grant WHERE role = 'customer' AND permission = 'market.buy'")
    actor = await customers.authenticate(db, token, now)
    assert actor.reach("market.buy") is None
    assert actor.reach("market.read") is Scope.ALL
