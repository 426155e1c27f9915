"""Vouchers of outside issuers: claimed, locked, title, re-keyed, and only then paid for."""

import asyncio
from datetime import timedelta

import pytest
from factories.deals import (
    CARD,
    LOCKED,
    REKEYED,
    Deal,
    events_of,
    fresh_code,
    job_for,
    reread,
    told,
)
from fakes.outside import http_client, start_sandbox

from quanhui import buyback, ledger, vouchers
from quanhui.base import clock
from quanhui.base.db import Pool, in_transaction, transaction
from quanhui.base.http import NoAnswer
from quanhui.buyback import Order, OrderState, tasks
from quanhui.buyback.errors import VoucherNotAccepted
from quanhui.catalogue import Connectors
from quanhui.catalogue.gateway import SandboxIssuerConnector
from quanhui.vouchers import Custody


async def lock(pool: Pool, deal: Deal, order: Order) -> None:
    await tasks.lock_at_issuers(pool, deal.source, deal.connectors, job_for(order), now=deal.now)


async def rekey(pool: Pool, deal: Deal, order: Order) -> None:
    await tasks.rekey_at_issuers(pool, deal.source, deal.connectors, job_for(order), now=deal.now)


async def unlock(pool: Pool, deal: Deal, order: Order) -> None:
    await tasks.unlock_at_issuers(pool, deal.source, deal.connectors, job_for(order), now=deal.now)


async def state(pool: Pool, order: Order) -> OrderState:
    return (await reread(pool, order)).state


async def posted(pool: Pool, order: Order) -> int:
    async with transaction(pool) as db:
        return len(await ledger.postings_of(db, order.id))


async def custody(pool: Pool, deal: Deal, code: str, product=REKEYED) -> Custody:
    async with transaction(pool) as db:
        return (await deal.voucher(db, code, product)).custody


async def live_code(pool: Pool, deal: Deal, order: Order) -> str:
    async with transaction(pool) as db:
        (code,) = (await vouchers.open_codes(db, deal.keyring, [order.lines[0].voucher_id])).values()
    return code


async def test_an_outside_voucher_is_locked_then_ours_then_re_keyed_and_only_then_paid_for(
    pool: Pool, open_deal: Deal
):
    deal, issuer = open_deal, open_deal.books["iss_rekeys"]
    code = deal.issue_outside()
    order = await deal.accepted(pool, code)
    assert order.state is OrderState.ACCEPTED
    assert (await custody(pool, deal, code), await posted(pool, order)) == (Custody.CLAIMED, 0)
    assert len(await told(pool, buyback.ACCEPTED)) == 1

    await lock(pool, deal, order)
    assert await state(pool, order) is OrderState.TITLE_TRANSFERRED
    assert issuer.locks == {code: f"{order.id}-1"}
    assert await custody(pool, deal, code) is Custody.PLATFORM_HELD
    assert await posted(pool, order) > 0
    assert await told(pool, buyback.SECURED) == []

    await rekey(pool, deal, order)
    assert await state(pool, order) is OrderState.SETTLING
    assert await live_code(pool, deal, order) in issuer.checks
    assert code not in issuer.checks
    (fact,) = await told(pool, buyback.SECURED)
    assert fact["order_id"] == order.id
    assert [kind for _, kind in await events_of(pool, order)] == ["claimed", "title_transferred", "rekeyed"]


async def test_every_step_may_be_repeated(pool: Pool, open_deal: Deal):
    deal = open_deal
    order = await deal.accepted(pool, deal.issue_outside())
    for step in (lock, lock, rekey, rekey, lock, unlock):
        await step(pool, deal, order)
    assert await state(pool, order) is OrderState.SETTLING
    assert len(await told(pool, buyback.TITLE_TRANSFERRED)) == len(await told(pool, buyback.SECURED)) == 1
    assert [kind for _, kind in await events_of(pool, order)] == ["claimed", "title_transferred", "rekeyed"]


async def test_two_workers_at_one_step_do_it_once(pool: Pool, open_deal: Deal):
    deal = open_deal
    order = await deal.accepted(pool, deal.issue_outside())
    await asyncio.gather(*(lock(pool, deal, order) for _ in range(4)))
    await asyncio.gather(*(rekey(pool, deal, order) for _ in range(4)))
    assert await state(pool, order) is OrderState.SETTLING
    assert len(await told(pool, buyback.SECURED)) == 1


@pytest.mark.parametrize("operation", ["lock", "verify", "rekey"])
async def test_a_lost_reply_is_asked_for_again_under_the_same_reference(
    pool: Pool, open_deal: Deal, operation
):
    deal, issuer = open_deal, open_deal.books["iss_rekeys"]
    order = await deal.accepted(pool, deal.issue_outside())
    issuer.lost[operation] = 2
    steps = [lock, rekey]
    failures = 0
    while steps:
        try:
            await steps[0](pool, deal, order)
        except NoAnswer:
            failures += 1
            assert await told(pool, buyback.SECURED) == []
        else:
            steps.pop(0)
    assert failures == 2
    assert {reference for _, reference in issuer.done} == {f"{order.id}-1"}
    assert await state(pool, order) is OrderState.SETTLING
    assert await live_code(pool, deal, order) in issuer.checks


async def test_a_crash_between_lock_and_title_leaves_nothing_stuck(pool: Pool, open_deal: Deal):
    deal, issuer = open_deal, open_deal.books["iss_rekeys"]
    code = deal.issue_outside()
    order = await deal.accepted(pool, code)
    # The process dies after the issuer locked and before our transaction: the reply is all that is lost.
    issuer.lost["verify"] = 1
    with pytest.raises(NoAnswer):
        await lock(pool, deal, order)
    assert issuer.locks == {code: f"{order.id}-1"}
    assert (await state(pool, order), await posted(pool, order)) == (OrderState.ACCEPTED, 0)
    await lock(pool, deal, order)
    await rekey(pool, deal, order)
    assert await state(pool, order) is OrderState.SETTLING


async def test_a_refused_lock_ends_the_deal_releases_the_claims_and_unlocks_the_others(
    pool: Pool, open_deal: Deal
):
    deal = open_deal
    async with transaction(pool) as db:
        own = await deal.issue(db)
    fine, refused = deal.issue_outside(LOCKED), deal.issue_outside()
    deal.books["iss_rekeys"].refuses.add(("lock", refused))
    order = await deal.accepted(pool, fine, own, refused)
    await lock(pool, deal, order)
    after = await reread(pool, order)
    assert (after.state, after.reason) == (OrderState.CANCELLED, "issuer_refused:void")
    for code, product in ((fine, LOCKED), (own, CARD), (refused, REKEYED)):
        assert await custody(pool, deal, code, product) is Custody.SELLER_HELD
    async with transaction(pool) as db:
        assert await vouchers.live_claims(db, [line.voucher_id for line in order.lines]) == {}
    assert (await posted(pool, order), await told(pool, buyback.SECURED)) == (0, [])
    assert deal.books["iss_locks"].locks

    await unlock(pool, deal, order)
    assert not deal.books["iss_locks"].locks
    kinds = [kind for _, kind in await events_of(pool, order)]
    assert (kinds.count("claimed"), kinds.count("released")) == (3, 3)

    again = await deal.accepted(pool, fine, own)
    await lock(pool, deal, again)
    assert await state(pool, again) is OrderState.TITLE_TRANSFERRED


async def test_a_voucher_spent_between_quote_and_lock_is_not_paid_for(pool: Pool, open_deal: Deal):
    deal, issuer = open_deal, open_deal.books["iss_rekeys"]
    code = deal.issue_outside()
    order = await deal.accepted(pool, code)
    issuer.spend(code, 1)
    await lock(pool, deal, order)
    after = await reread(pool, order)
    assert (after.state, after.reason) == (
        OrderState.CANCELLED,
        "issuer_refused:changed_since_quote_locked",
    )
    assert (await posted(pool, order), await told(pool, buyback.SECURED)) == (0, [])
    await unlock(pool, deal, order)
    assert not issuer.locks


async def test_an_issuer_that_cannot_re_key_keeps_the_voucher_locked_for_us(pool: Pool, open_deal: Deal):
    deal, issuer = open_deal, open_deal.books["iss_locks"]
    code = deal.issue_outside(LOCKED)
    order = await deal.accepted(pool, code)
    await lock(pool, deal, order)
    await rekey(pool, deal, order)
    assert await state(pool, order) is OrderState.SETTLING
    assert (issuer.locks, issuer.asked["rekey"]) == ({code: f"{order.id}-1"}, 0)
    assert await live_code(pool, deal, order) == code


async def test_an_order_of_own_and_outside_vouchers_waits_for_the_outside_ones(pool: Pool, open_deal: Deal):
    deal = open_deal
    async with transaction(pool) as db:
        own = await deal.issue(db)
    outside = deal.issue_outside()
    order = await deal.accepted(pool, own, outside)
    assert await custody(pool, deal, own, CARD) is Custody.CLAIMED
    await lock(pool, deal, order)
    await rekey(pool, deal, order)
    (fact,) = await told(pool, buyback.SECURED)
    assert fact["voucher_ids"] == [line.voucher_id for line in order.lines]
    async with transaction(pool) as db:
        opened = await vouchers.open_codes(db, deal.keyring, fact["voucher_ids"])
    assert not {own, outside} & set(opened.values())


async def test_a_refused_re_keying_is_not_paid_for(pool: Pool, open_deal: Deal):
    deal = open_deal
    code = deal.issue_outside()
    deal.books["iss_rekeys"].refuses.add(("rekey", code))
    order = await deal.accepted(pool, code)
    await lock(pool, deal, order)
    with pytest.raises(tasks.RekeyRefused):
        await rekey(pool, deal, order)
    assert (await state(pool, order), await told(pool, buyback.SECURED)) == (OrderState.TITLE_TRANSFERRED, [])


async def test_of_many_who_register_one_new_outside_code_at_once_one_can_sell_it(pool: Pool, open_deal: Deal):
    deal = open_deal
    code = deal.issue_outside()

    async def sell(number: int) -> Order:
        return await in_transaction(pool, lambda db: deal.sell(db, code, seller=f"cus_{number}"))

    async def accept(order: Order) -> Order:
        return await in_transaction(pool, lambda db: deal.accept(db, order))

    orders = await asyncio.gather(*map(sell, range(16)))
    assert [order.state for order in orders] == [OrderState.QUOTED] * 16
    outcomes = await asyncio.gather(*map(accept, orders), return_exceptions=True)
    assert sum(isinstance(outcome, Order) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, VoucherNotAccepted) for outcome in outcomes) == 15
    assert await pool.fetchval("SELECT count(*) FROM vouchers.voucher") == 1


async def test_a_silent_issuer_gets_no_quote_on_a_guess_and_nothing_is_kept(pool: Pool, open_deal: Deal):
    deal = open_deal
    deal.books["iss_rekeys"].lost["verify"] = 1
    with pytest.raises(NoAnswer):
        await deal.accepted(pool, deal.issue_outside())
    assert await pool.fetchval("SELECT count(*) FROM buyback.buyback_order") == 0


async def test_the_whole_deal_with_the_issuers_sandbox_and_its_faults(
    pool: Pool, open_deal: Deal, keyring, tmp_path
):
    deal = open_deal
    deal.now = clock.now()
    code = fresh_code(REKEYED)
    with start_sandbox("issuer", tmp_path) as sandbox:
        sandbox.call("/control/vouchers", [in_the_books(code, deal)])
        async with http_client() as http:
            deal.connectors = Connectors(
                lambda issuer: SandboxIssuerConnector(
                    http, base_url=sandbox.url, issuer=issuer, secret=sandbox.secret, timeout_s=0.5
                )
            )
            order = await deal.accepted(pool, code)
            for step in (lock, rekey):
                sandbox.fault("lost_reply", next_n=1, delay_s=1)
                with pytest.raises(NoAnswer):
                    await step(pool, deal, order)
                sandbox.behave()
                await step(pool, deal, order)
        new = await live_code(pool, deal, order)
        assert await state(pool, order) is OrderState.SETTLING
        books = {row["code"]: row for row in sandbox.call("/control/books", {"codes": [code, new]})}
    assert (books[code]["void"], books[new]["balance_fen"]) == (1, 100_00)


def in_the_books(code: str, deal: Deal) -> dict:
    return {
        "issuer": "iss_rekeys",
        "prefix": "KD",
        "code": code,
        "face_fen": 100_00,
        "balance_fen": 100_00,
        "expires_at": (deal.now + timedelta(days=365)).isoformat(),
    }
