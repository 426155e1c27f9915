"""Collecting and giving back, against the sandbox of the institution and what goes wrong at real ones."""

import asyncio
from datetime import timedelta

import pytest
from factories.market import committed_market, heard, reread, states
from fakes.outside import http_client, start_sandbox

from quanhui import redistribution as market
from quanhui.base import clock
from quanhui.base.db import Pool, transaction
from quanhui.base.http import NoAnswer
from quanhui.redistribution import PurchaseState, tasks
from quanhui.settlement import SandboxInstitution


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory):
    party = start_sandbox("institution", tmp_path_factory.mktemp("institution"), settle_s=0.05)
    yield party
    party.stop()


@pytest.fixture
def bank(sandbox):
    sandbox.behave()
    return sandbox


@pytest.fixture
async def institution(bank):
    async with http_client() as http:
        yield SandboxInstitution(
            http,
            base_url=bank.url,
            secret=bank.secret,
            callback_secret=bank.callback_secret,
            timeout_s=0.5,
        )


async def reserve(pool: Pool, keyring, count: int = 1):
    listings = await committed_market(pool, keyring, count, now=clock.now())
    async with transaction(pool) as db:
        ids = [each.id for each in listings]
        return await market.reserve(db, ids, buyer_id="cus_buyer", now=clock.now()), listings


async def jobs_of(pool: Pool, topic: str, *, after: timedelta = timedelta(minutes=20)):
    async with transaction(pool) as db:
        return await heard(db, topic, now=clock.now() + after)


async def opened(pool: Pool, keyring, institution, count: int = 1):
    purchase, listings = await reserve(pool, keyring, count)
    jobs = await jobs_of(pool, "redistribution.payment_wanted")
    await tasks.open_payments(pool, institution, jobs, now=clock.now())
    return purchase, listings


async def lapse(pool: Pool):
    async with transaction(pool) as db:
        await market.sweep_reservations(db, now=clock.now() + market.RESERVE_FOR)
    return await jobs_of(pool, "redistribution.close_wanted")


async def now_is(pool: Pool, purchase, listings) -> tuple[PurchaseState, list[str]]:
    async with transaction(pool) as db:
        return (await reread(db, purchase)).state, await states(db, listings)


async def test_a_payment_is_opened_paid_and_found_by_asking_when_no_callback_comes(
    pool, keyring, institution
):
    purchase, listings = await opened(pool, keyring, institution, 2)
    async with transaction(pool) as db:
        assert (await reread(db, purchase)).payment_no.startswith("4200")
    assert await tasks.ask_payments(pool, institution, now=clock.now()) == 0
    await institution.play_buyer_paying(purchase.out_no, now=clock.now())
    later = clock.now() + tasks.ASK_AFTER
    assert await tasks.ask_payments(pool, institution, now=later) == 1
    assert await now_is(pool, purchase, listings) == (PurchaseState.PAID, ["sold", "sold"])
    assert await tasks.ask_payments(pool, institution, now=later) == 0


async def test_opening_again_after_a_lost_reply_opens_nothing_twice(pool, keyring, institution, bank):
    purchase, _ = await reserve(pool, keyring)
    jobs = await jobs_of(pool, "redistribution.payment_wanted")
    bank.fault("lost_reply", next_n=1, delay_s=1)
    with pytest.raises(NoAnswer):
        await tasks.open_payments(pool, institution, jobs, now=clock.now())
    await tasks.open_payments(pool, institution, jobs, now=clock.now())
    async with transaction(pool) as db:
        assert (await reread(db, purchase)).payment_no is not None


async def test_a_lapsed_purchase_is_released_when_the_institution_has_closed_it(pool, keyring, institution):
    purchase, listings = await opened(pool, keyring, institution)
    jobs = await lapse(pool)
    assert await now_is(pool, purchase, listings) == (PurchaseState.PENDING_PAYMENT, ["reserved"])
    await tasks.close_payments(pool, institution, jobs, now=clock.now())
    assert await now_is(pool, purchase, listings) == (PurchaseState.CLOSED, ["listed"])
    report = await institution.play_buyer_paying(purchase.out_no, now=clock.now())
    assert report.state == "unknown"


async def test_what_was_paid_before_the_institution_could_close_it_is_sold(pool, keyring, institution):
    purchase, listings = await opened(pool, keyring, institution)
    jobs = await lapse(pool)
    await institution.play_buyer_paying(purchase.out_no, now=clock.now())
    await tasks.close_payments(pool, institution, jobs, now=clock.now())
    assert await now_is(pool, purchase, listings) == (PurchaseState.PAID, ["sold"])


async def test_without_an_answer_the_reservation_is_kept(pool, keyring, institution, bank):
    purchase, listings = await opened(pool, keyring, institution)
    jobs = await lapse(pool)
    bank.fault("lost_reply", next_n=1, delay_s=1)
    with pytest.raises(NoAnswer):
        await tasks.close_payments(pool, institution, jobs, now=clock.now())
    assert await now_is(pool, purchase, listings) == (PurchaseState.PENDING_PAYMENT, ["reserved"])
    await tasks.close_payments(pool, institution, jobs, now=clock.now())
    assert await now_is(pool, purchase, listings) == (PurchaseState.CLOSED, ["listed"])


async def test_a_purchase_whose_payment_was_never_opened_lapses_all_the_same(pool, keyring, institution):
    purchase, listings = await reserve(pool, keyring)
    await tasks.close_payments(pool, institution, await lapse(pool), now=clock.now())
    assert await now_is(pool, purchase, listings) == (PurchaseState.CLOSED, ["listed"])


async def test_money_that_comes_too_late_is_given_back_exactly_once(pool, keyring, institution, bank):
    bank.fault("success_after_close", next_n=1, delay_s=0)
    purchase, listings = await opened(pool, keyring, institution)
    await tasks.close_payments(pool, institution, await lapse(pool), now=clock.now())
    async with transaction(pool) as db:
        ids = [each.id for each in listings]
        await market.reserve(db, ids, buyer_id="cus_quicker", now=clock.now())
    for _ in range(100):
        (report,) = await institution.query_payments([purchase.out_no], now=clock.now())
        if report.state == "succeeded":
            break
        await asyncio.sleep(0.02)
    payment = market.Payment(out_no=purchase.out_no, amount_fen=report.amount_fen)
    async with transaction(pool) as db:
        await market.confirm_paid(db, [payment], institution=tasks.INSTITUTION, now=clock.now())
    jobs = await jobs_of(pool, "redistribution.refund_wanted")
    bank.fault("lost_reply", next_n=1, delay_s=1)
    for _ in range(100):
        try:
            await tasks.give_back(pool, institution, jobs, now=clock.now())
            break
        except NoAnswer:
            await asyncio.sleep(0.02)
    await tasks.give_back(pool, institution, jobs, now=clock.now())
    assert await now_is(pool, purchase, listings) == (PurchaseState.REFUNDED, ["reserved"])
    moved = bank.call("/control/moved?by=party&kind=refund")
    assert moved[purchase.out_no] == {"count": 1, "sum_fen": 95_00}
