"""Payouts against the sandbox of the institution, with what goes wrong at real ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import aiohttp
import pytest
from factories.payouts import books, opened, owed_orders, reread, transfer_jobs
from fakes.outside import Sandbox, http_client, receive_callbacks, start_sandbox

from quanhui import evidence, settlement
from quanhui.base import clock
from quanhui.base.access import Actor, ActorKind, Scope
from quanhui.base.db import Pool, transaction
from quanhui.base.keyring import Keyring
from quanhui.base.signing import BadSignature
from quanhui.settlement import CUSTODIAN, Flag, Payout, SandboxInstitution, State

FINANCE = Actor(kind=ActorKind.STAFF, id="opr_1", grants={"settlement.approve": Scope.ALL})


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory):
    party = start_sandbox("institution", tmp_path_factory.mktemp("institution"), settle_s=0.05)
    yield party
    party.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_client() as client:
        yield client


@pytest.fixture
def bank(sandbox: Sandbox):
    """The sandbox with an empty fault table."""
    sandbox.behave()
    return sandbox


def speak_to(
    bank: Sandbox, http: aiohttp.ClientSession, callback_url: str | None = None
) -> SandboxInstitution:
    return SandboxInstitution(
        http,
        base_url=bank.url,
        secret=bank.secret,
        callback_secret=bank.callback_secret,
        callback_url=callback_url,
        timeout_s=0.5,
    )


@pytest.fixture
def institution(bank: Sandbox, http: aiohttp.ClientSession) -> SandboxInstitution:
    return speak_to(bank, http)


async def going(pool: Pool, keyring: Keyring, count: int = 1) -> list[Payout]:
    now = clock.now()
    async with transaction(pool) as db:
        return await opened(db, await owed_orders(db, keyring, count, now=now), now=now)


async def send(pool: Pool, institution, keyring: Keyring, *payouts: Payout) -> None:
    channels = {CUSTODIAN: institution}
    await settlement.send_transfers(pool, channels, keyring, transfer_jobs(*payouts), now=clock.now())


async def ask_until(
    pool: Pool, institution, payout: Payout, done: Callable[[Payout], bool], *, keyring: Keyring
) -> Payout:
    """Sweep as the worker does, with a clock that runs faster, until the payout is as wanted."""
    for minute in range(100):
        now = clock.now() + timedelta(seconds=2 * minute)
        await settlement.query_unknown(pool, {CUSTODIAN: institution}, now=now)
        await send(pool, institution, keyring, payout)
        payout = await reread(pool, payout)
        if done(payout):
            return payout
        await asyncio.sleep(0.03)
    raise AssertionError(f"still {payout.state}")


def ended(payout: Payout) -> bool:
    return payout.state in {State.SUCCEEDED, State.FAILED, State.EXPIRED, State.RETURNED}


def paid_times(bank: Sandbox, payout: Payout) -> int:
    """How often the institution really paid this payout, under whatever number."""
    moved = bank.call("/control/moved?by=out_no")
    numbers = [settlement.out_no_of(payout.id, number) for number in range(1, 10)]
    return sum(moved.get(number, {"count": 0})["count"] for number in numbers)


async def assert_paid_once(pool: Pool, bank: Sandbox, payout: Payout) -> None:
    assert payout.state is State.SUCCEEDED
    assert paid_times(bank, payout) == 1
    async with transaction(pool) as db:
        assert await books(db, payout.seller_id) == (0, 0)
        (event,) = await evidence.path_of(db, payout.voucher_ids[0])
    assert event.kind == "payout_succeeded"


async def test_a_transfer_that_goes_well_pays_once(pool: Pool, keyring, bank, institution):
    payouts = await going(pool, keyring, 3)
    await send(pool, institution, keyring, *payouts)
    for payout in payouts:
        done = await ask_until(pool, institution, payout, ended, keyring=keyring)
        assert paid_times(bank, done) == 1
        assert done.state is State.SUCCEEDED
    async with transaction(pool) as db:
        assert await books(db, payouts[0].seller_id) == (0, 0)


@pytest.mark.parametrize(
    ("fault", "settings"),
    [
        ("lost_reply", {"delay_s": 1}),
        ("error_500_after", {}),
        ("error_500_before", {}),
        ("slow", {"delay_s": 1}),
        ("late_effect", {"delay_s": 1}),
        ("unknown", {"times": 2}),
    ],
)
async def test_whatever_befalls_the_call_the_payee_is_paid_once(
    pool: Pool, keyring, bank, institution, fault, settings
):
    (payout,) = await going(pool, keyring)
    bank.fault(fault, next_n=1, **settings)
    await send(pool, institution, keyring, payout)
    bank.behave()
    done = await ask_until(pool, institution, payout, ended, keyring=keyring)
    await assert_paid_once(pool, bank, done)
    assert done.attempts == 1


async def test_a_lost_reply_is_unknown_until_asked_and_posts_nothing(pool: Pool, keyring, bank, institution):
    (payout,) = await going(pool, keyring)
    bank.fault("lost_reply", next_n=1, delay_s=1)
    await send(pool, institution, keyring, payout)
    payout = await reread(pool, payout)
    assert payout.state is State.UNKNOWN
    async with transaction(pool) as db:
        assert await books(db, payout.seller_id) == (0, 92_00)
    await send(pool, institution, keyring, payout)
    assert (await reread(pool, payout)).state is State.UNKNOWN, "it was sent again without being asked about"


class DiesAfterSending:
    """A worker that is killed when the institution has acted and nothing is recorded yet."""

    def __init__(self, institution: SandboxInstitution) -> None:
        self._institution = institution

    async def send(self, orders, *, now: datetime):
        await self._institution.send(orders, now=now)
        raise ConnectionResetError("killed")


async def test_a_worker_that_dies_between_call_and_record_does_not_pay_twice(
    pool: Pool, keyring, bank, institution
):
    (payout,) = await going(pool, keyring)
    with pytest.raises(ConnectionResetError):
        await send(pool, DiesAfterSending(institution), keyring, payout)
    for _ in range(3):
        await send(pool, institution, keyring, payout)
    assert await settlement.query_unknown(pool, {CUSTODIAN: institution}, now=clock.now()) == 0, (
        "it may still be calling"
    )
    done = await ask_until(pool, institution, payout, ended, keyring=keyring)
    await assert_paid_once(pool, bank, done)


class DiesBeforeSending:
    """A worker that is killed before the institution hears of anything."""

    async def send(self, *_orders, **_given):
        raise ConnectionResetError("killed")


async def test_a_worker_that_dies_before_the_call_leaves_a_transfer_that_is_sent_under_its_number(
    pool: Pool, keyring, bank, institution
):
    (payout,) = await going(pool, keyring)
    with pytest.raises(ConnectionResetError):
        await send(pool, DiesBeforeSending(), keyring, payout)
    await send(pool, institution, keyring, payout)
    assert paid_times(bank, payout) == 0
    done = await ask_until(pool, institution, payout, ended, keyring=keyring)
    await assert_paid_once(pool, bank, done)
    assert done.attempts == 1


async def test_workers_with_the_same_jobs_send_one_transfer(pool: Pool, keyring, bank, institution):
    (payout,) = await going(pool, keyring)
    await asyncio.gather(*(send(pool, institution, keyring, payout) for _ in range(16)))
    async with transaction(pool) as db:
        assert await db.fetchval("SELECT sends FROM settlement.attempt") == 1
    await assert_paid_once(pool, bank, await ask_until(pool, institution, payout, ended, keyring=keyring))


async def fails(pool: Pool, keyring, bank, institution, reason: str) -> Payout:
    (payout,) = await going(pool, keyring)
    bank.fault("fail", next_n=1, reason=reason)
    await send(pool, institution, keyring, payout)
    return await ask_until(pool, institution, payout, ended, keyring=keyring)


async def test_a_passing_failure_is_retried_under_a_new_number(pool: Pool, keyring, bank, institution):
    failed = await fails(pool, keyring, bank, institution, "institution_busy")
    assert (failed.state, failed.failure) == (State.FAILED, "institution_busy")
    async with transaction(pool) as db:
        assert await books(db, failed.seller_id) == (92_00, 0)
        assert await settlement.retry_failed(db, now=clock.now()) == 0, "it must wait first"
        assert await settlement.retry_failed(db, now=failed.retry_at) == 1
    payout = await reread(pool, failed)
    assert (payout.state, payout.attempts) == (State.SUBMITTED, 2)
    await send(pool, institution, keyring, payout)
    await assert_paid_once(pool, bank, await ask_until(pool, institution, payout, ended, keyring=keyring))


async def test_a_lasting_failure_waits_for_a_person(pool: Pool, keyring, bank, institution):
    failed = await fails(pool, keyring, bank, institution, "account_unusable")
    assert (failed.state, failed.retry_at) == (State.FAILED, None)
    async with transaction(pool) as db:
        assert await settlement.retry_failed(db, now=clock.now() + timedelta(days=1)) == 0
        (payout,) = await settlement.retry_payouts(db, [failed.id], FINANCE, now=clock.now())
    await send(pool, institution, keyring, payout)
    done = await ask_until(pool, institution, payout, ended, keyring=keyring)
    await assert_paid_once(pool, bank, done)
    async with transaction(pool) as db:
        states = [(step.state, step.number) for step in await settlement.timeline(db, payout.id)]
    assert (State.FAILED, 1) in states
    assert states[-1] == (State.SUCCEEDED, 2)


async def test_a_transfer_sent_back_after_success_is_owed_again(pool: Pool, keyring, bank, institution):
    (payout,) = await going(pool, keyring)
    bank.fault("return_after_success", next_n=1, delay_s=0)
    await send(pool, institution, keyring, payout)
    back = await ask_until(
        pool, institution, payout, lambda found: found.state is State.RETURNED, keyring=keyring
    )
    async with transaction(pool) as db:
        assert await books(db, back.seller_id) == (92_00, 0)
        states = [step.state for step in await settlement.timeline(db, payout.id)]
        assert states[-2:] == [State.SUCCEEDED, State.RETURNED]
        (again,) = await settlement.retry_payouts(db, [back.id], FINANCE, now=clock.now())
    await send(pool, institution, keyring, again)
    done = await ask_until(pool, institution, again, ended, keyring=keyring)
    assert (done.state, done.attempts) == (State.SUCCEEDED, 2)
    async with transaction(pool) as db:
        assert await books(db, back.seller_id) == (0, 0)


async def left_unconfirmed(pool: Pool, keyring, bank, institution) -> Payout:
    (payout,) = await going(pool, keyring)
    bank.fault("awaiting_payee", next_n=1)
    await send(pool, institution, keyring, payout)
    return await ask_until(
        pool, institution, payout, lambda found: found.state is State.AWAITING_PAYEE, keyring=keyring
    )


async def a_day_passes(pool: Pool) -> None:
    """Instead of moving the clock, which the institution would not believe."""
    async with transaction(pool) as db:
        await db.execute(
            "UPDATE settlement.attempt "
            "SET updated_at = updated_at - interval '25 hours', next_query_at = now()"
        )


async def test_what_the_payee_does_not_confirm_is_closed_and_then_expires(
    pool: Pool, keyring, bank, institution
):
    payout = await left_unconfirmed(pool, keyring, bank, institution)
    await settlement.query_unknown(pool, {CUSTODIAN: institution}, now=clock.now() + timedelta(minutes=4))
    assert (await reread(pool, payout)).state is State.AWAITING_PAYEE
    await a_day_passes(pool)
    await settlement.query_unknown(pool, {CUSTODIAN: institution}, now=clock.now())
    expired = await reread(pool, payout)
    assert (expired.state, expired.retry_at) == (State.EXPIRED, None)
    async with transaction(pool) as db:
        assert await books(db, payout.seller_id) == (92_00, 0)
    with pytest.raises(Exception, match="409"):
        bank.call("/control/transfers/confirm", {"out_no": settlement.out_no_of(payout.id, 1)})


async def test_what_the_payee_confirms_in_the_last_moment_is_paid_and_does_not_expire(
    pool: Pool, keyring, bank, institution
):
    payout = await left_unconfirmed(pool, keyring, bank, institution)
    await a_day_passes(pool)
    bank.call("/control/transfers/confirm", {"out_no": settlement.out_no_of(payout.id, 1)})
    await settlement.query_unknown(pool, {CUSTODIAN: institution}, now=clock.now())
    await assert_paid_once(pool, bank, await reread(pool, payout))


async def test_success_after_we_closed_it_is_booked_and_flagged(
    pool: Pool, keyring, bank, http: aiohttp.ClientSession
):
    async with receive_callbacks() as receiver:
        institution = speak_to(bank, http, receiver.url)
        payout = await left_unconfirmed(pool, keyring, bank, institution)
        bank.fault("success_after_close", next_n=1, delay_s=0.1)
        await a_day_passes(pool)
        await settlement.query_unknown(pool, {CUSTODIAN: institution}, now=clock.now())
        assert (await reread(pool, payout)).state is State.EXPIRED
        await until(lambda: "transfer.succeeded" in [event["type"] for event in receiver.events()])
        await deliver(pool, institution, receiver.requests)
    late = await reread(pool, payout)
    assert late.flag is Flag.CONTRADICTION
    await assert_paid_once(pool, bank, late)
    async with transaction(pool) as db:
        with pytest.raises(settlement.PayoutMoved):
            await settlement.retry_payouts(db, [payout.id], FINANCE, now=clock.now())


async def until(come: Callable[[], bool]) -> None:
    for _ in range(200):
        if come():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come")


async def deliver(pool: Pool, institution: SandboxInstitution, requests) -> int:
    """Take in callbacks as the route does; returns how many events were new."""
    new = 0
    for headers, body in requests:
        try:
            events = institution.verify_callback(headers, body, clock.now()).events
        except BadSignature:
            continue
        async with transaction(pool) as db:
            new += await settlement.take_events(db, events, now=clock.now())
    return new


async def test_callbacks_may_come_twice_in_any_order_forged_and_replayed(
    pool: Pool, keyring, bank, http: aiohttp.ClientSession
):
    payouts = await going(pool, keyring, 5)
    for kind in ("duplicate_callback", "reordered_callbacks", "replayed_callback", "forged_callback"):
        bank.fault(kind, delay_s=0.1)
    bank.fault("awaiting_payee", delay_s=0.05)
    async with receive_callbacks() as receiver:
        institution = speak_to(bank, http, receiver.url)
        await send(pool, institution, keyring, *payouts)
        wanted = [settlement.out_no_of(payout.id, 1) for payout in payouts]
        await until(lambda: all(successes(receiver.events()).count(number) >= 3 for number in wanted))
        requests = list(reversed(receiver.requests))
        forged = sum(1 for headers, body in requests if is_forged(institution, headers, body))
        await deliver(pool, institution, requests)
        assert await deliver(pool, institution, requests) == 0
    assert forged >= 1
    for payout in payouts:
        done = await reread(pool, payout)
        assert done.flag is None
        await assert_paid_once(pool, bank, done)


def successes(events) -> list[str]:
    return [event["out_no"] for event in events if event["type"] == "transfer.succeeded"]


def is_forged(institution: SandboxInstitution, headers, body) -> bool:
    try:
        institution.verify_callback(headers, body, clock.now())
    except BadSignature:
        return True
    return False


async def test_a_forged_success_changes_nothing(pool: Pool, keyring, bank, http: aiohttp.ClientSession):
    (payout,) = await going(pool, keyring)
    bank.fault("fail", next_n=1, reason="account_unusable")
    bank.fault("forged_callback", next_n=1)
    async with receive_callbacks() as receiver:
        institution = speak_to(bank, http, receiver.url)
        await send(pool, institution, keyring, payout)
        await until(lambda: len(receiver.events()) >= 2)
        await deliver(pool, institution, receiver.requests)
    failed = await reread(pool, payout)
    assert (failed.state, failed.flag) == (State.FAILED, None)
    async with transaction(pool) as db:
        assert await books(db, payout.seller_id) == (92_00, 0)


async def test_a_hundred_payouts_in_bad_weather_are_each_paid_once(pool: Pool, keyring, bank, institution):
    payouts = await going(pool, keyring, 100)
    for kind in ("error_500_before", "error_500_after", "lost_reply", "unknown"):
        bank.fault(kind, probability=0.1, **({"delay_s": 1} if kind == "lost_reply" else {}))
    bank.fault("fail", probability=0.1, reason="institution_busy")
    await send(pool, institution, keyring, *payouts)
    bank.behave()
    for round_ in range(60):
        now = clock.now() + timedelta(seconds=4 * round_)
        await settlement.query_unknown(pool, {CUSTODIAN: institution}, now=now)
        async with transaction(pool) as db:
            await settlement.retry_failed(db, now=now)
            found = await settlement.find_payouts(db, [payout.id for payout in payouts])
        if all(payout.state is State.SUCCEEDED for payout in found.values()):
            break
        await send(pool, institution, keyring, *found.values())
        await asyncio.sleep(0.05)
    assert {payout.state for payout in found.values()} == {State.SUCCEEDED}
    assert {paid_times(bank, payout) for payout in payouts} == {1}
    async with transaction(pool) as db:
        assert [await books(db, payout.seller_id) for payout in payouts] == [(0, 0)] * 100
        assert await db.fetchval("SELECT count(*) FROM settlement.payout WHERE flag IS NOT NULL") == 0
