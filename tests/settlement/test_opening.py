import asyncio

import asyncpg
import pytest
from factories.payouts import books, listen, opened, owed_orders, payout_of, secured, sellers, told

from quanhui import customers, evidence, ledger, settlement, vouchers
from quanhui.base.access import Actor, ActorKind, Scope
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import NotFound
from quanhui.base.outbox import Job
from quanhui.ledger import postings
from quanhui.places import Merchant, Region, RegionLevel, Store, StoreKind, enrol
from quanhui.settlement import Hold, State
from quanhui.settlement.rules import MACHINES, AttemptState, Flag, Method

FINANCE = Actor(kind=ActorKind.STAFF, id="opr_1", grants={"settlement.approve": Scope.ALL})


async def test_the_machines_and_enums_are_those_of_the_database(db: Db):
    for machine in MACHINES:
        rows = await db.fetch("SELECT from_state, to_state FROM base.move WHERE machine = $1", machine.name)
        moves = {(before, after) for before, afters in machine.moves.items() for after in afters}
        assert {(row["from_state"], row["to_state"]) for row in rows} == moves
    definitions = await db.fetch(
        "SELECT conrelid::regclass::text AS of, pg_get_constraintdef(oid) AS text FROM pg_constraint "
        "WHERE contype = 'c' AND connamespace = 'settlement'::regnamespace"
    )
    checks = {row["of"] + " " + row["text"] for row in definitions}
    for table, column, enum in (
        ("payout", "state", State),
        ("payout", "method", Method),
        ("payout", "flag", Flag),
        ("attempt", "state", AttemptState),
    ):
        (check,) = [c for c in checks if c.startswith(f"settlement.{table} CHECK (({column} ")]
        assert {word.strip("'") for word in check.split("'")[1::2]} == set(enum)


async def test_the_database_refuses_a_move_that_is_not_in_the_table(db: Db, keyring, now):
    (payout,) = await opened(db, await owed_orders(db, keyring, 1, now=now), now=now)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="illegal move of payout"):
        await db.execute("UPDATE settlement.payout SET state = 'held' WHERE id = $1", payout.id)


async def test_cash_is_on_its_way_in_the_transaction_that_tells_it_is_due(db: Db, keyring, now):
    await listen(db)
    jobs = await owed_orders(db, keyring, 2, now=now)
    payouts = await opened(db, jobs, now=now)
    assert [payout.state for payout in payouts] == [State.SUBMITTED, State.SUBMITTED]
    numbers = [settlement.out_no_of(payout.id, 1) for payout in payouts]
    assert all(number.isalnum() and len(number) == 28 for number in numbers)
    assert [fact["out_no"] for fact in await told(db, settlement.TRANSFER_DUE)] == numbers
    assert await books(db, payouts[0].seller_id) == (0, 2 * 92_00)


async def test_sixty_four_deliveries_of_one_fact_open_one_payout(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        (job,) = await owed_orders(db, keyring, 1, now=now)

    async def deliver() -> None:
        async with transaction(pool) as db:
            await settlement.open_payouts(db, [job, job], now=now)

    await asyncio.gather(*(deliver() for _ in range(64)))
    async with transaction(pool) as db:
        payout = await payout_of(db, job)
        assert await db.fetchval("SELECT count(*) FROM settlement.attempt") == 1
        assert await books(db, payout.seller_id) == (0, 92_00)


async def test_stored_value_is_there_at_once_and_in_the_evidence(db: Db, keyring, now):
    await listen(db)
    (seller, _), *_ = await sellers(db, keyring, 1, now=now)
    job = await secured(db, keyring, seller_id=seller, payee_id=None, now=now, method="stored_value")
    (payout,) = await opened(db, [job], now=now)
    assert payout.state is State.SUCCEEDED
    code = postings.stored_value(seller)
    assert (await ledger.balances(db, [code]))[code].balance_fen == 92_00
    assert await books(db, seller) == (0, 0)
    assert len(await told(db, settlement.PAYOUT_SUCCEEDED)) == 1
    (event,) = await evidence.path_of(db, job.payload["voucher_ids"][0])
    assert (event.kind, event.subject) == ("payout_succeeded", job.payload["order_id"])
    assert event.facts["payout_id"] == payout.id


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"hold_reason": "amount-order"}, "amount-order"),
        ({"payee_id": None}, Hold.PAYEE_UNVERIFIED),
        ({"net_fen": 20_000_01}, Hold.ABOVE_LIMIT),
        ({"voucher_ids": ["vch_nobody_knows"]}, Hold.TITLE_NOT_TAKEN),
    ],
)
async def test_what_is_held_stays_owed(db: Db, keyring, now, given, reason):
    await listen(db)
    (job,) = await owed_orders(db, keyring, 1, now=now)
    job = await secured(
        db,
        keyring,
        seller_id=job.payload["seller_id"],
        now=now,
        **{"payee_id": job.payload["payee_id"], **given},
    )
    (payout,) = await opened(db, [job], now=now)
    assert (payout.state, payout.hold_reason) == (State.HELD, reason)
    assert await books(db, payout.seller_id) == (92_00 + payout.amount_fen, 0)
    assert await told(db, settlement.TRANSFER_DUE) == []
    assert (await told(db, settlement.PAYOUT_HELD))[0]["reason"] == reason


async def test_cash_goes_to_nobody_whose_name_is_not_verified(db: Db, keyring, now):
    ((seller, payee),) = await sellers(db, keyring, 1, now=now, verified=False)
    job = await secured(db, keyring, seller_id=seller, payee_id=payee, now=now)
    assert (await opened(db, [job], now=now))[0].hold_reason == Hold.PAYEE_UNVERIFIED


async def test_cash_goes_to_no_account_but_the_sellers_own(db: Db, keyring, now):
    (seller, _), (_, strangers) = await sellers(db, keyring, 2, now=now)
    job = await secured(db, keyring, seller_id=seller, payee_id=strangers, now=now)
    (payout,) = await opened(db, [job], now=now)
    assert payout.hold_reason == Hold.PAYEE_UNVERIFIED
    with pytest.raises(settlement.PayoutBlocked) as refusal:
        await settlement.approve_payouts(db, [payout.id], FINANCE, now=now)
    assert refusal.value.facts["reasons"] == {payout.id: "payee_unverified"}


async def test_a_suspended_seller_is_not_paid(db: Db, keyring, now):
    (job,) = await owed_orders(db, keyring, 1, now=now)
    seller, status = job.payload["seller_id"], customers.Status.SUSPENDED
    await customers.set_status(db, [seller], status=status, actor_id="opr_1", reason="fraud", now=now)
    assert (await opened(db, [job], now=now))[0].hold_reason == Hold.SELLER_SUSPENDED


async def test_a_frozen_voucher_is_not_paid_for_even_with_approval(db: Db, keyring, now):
    (job,) = await owed_orders(db, keyring, 1, now=now, hold_reason="amount-order")
    (payout,) = await opened(db, [job], now=now)
    await vouchers.set_integrity(db, job.payload["voucher_ids"], vouchers.Integrity.FROZEN)
    with pytest.raises(settlement.PayoutBlocked):
        await settlement.approve_payouts(db, [payout.id], FINANCE, now=now)
    await vouchers.set_integrity(db, job.payload["voucher_ids"], vouchers.Integrity.CLEAR)
    await settlement.approve_payouts(db, [payout.id], FINANCE, now=now)


async def test_approval_sends_a_held_payout_on_once(db: Db, keyring, now):
    await listen(db)
    (payout,) = await opened(
        db, await owed_orders(db, keyring, 1, now=now, hold_reason="amount-order"), now=now
    )
    (approved,) = await settlement.approve_payouts(db, [payout.id], FINANCE, now=now)
    assert approved.state is State.SUBMITTED
    assert await books(db, payout.seller_id) == (0, 92_00)
    assert len(await told(db, settlement.TRANSFER_DUE)) == 1
    states = [step.state for step in await settlement.timeline(db, payout.id)]
    assert states == [State.CREATED, State.HELD, State.APPROVED, State.SUBMITTED]
    with pytest.raises(settlement.PayoutMoved):
        await settlement.approve_payouts(db, [payout.id], FINANCE, now=now)
    with pytest.raises(NotFound):
        await settlement.approve_payouts(db, ["pot_nobody_knows"], FINANCE, now=now)


async def test_nobody_approves_money_to_themselves(db: Db, keyring, now):
    (payout,) = await opened(
        db, await owed_orders(db, keyring, 1, now=now, hold_reason="amount-order"), now=now
    )
    seller = Actor(kind=ActorKind.STAFF, id=payout.seller_id, grants=FINANCE.grants)
    with pytest.raises(settlement.OwnPayout):
        await settlement.approve_payouts(db, [payout.id], seller, now=now)


async def test_two_people_who_approve_at_once_send_one_transfer(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        (payout,) = await opened(
            db, await owed_orders(db, keyring, 1, now=now, hold_reason="amount-order"), now=now
        )

    async def approve() -> str:
        async with transaction(pool) as db:
            await settlement.approve_payouts(db, [payout.id], FINANCE, now=now)
        return "approved"

    outcomes = await asyncio.gather(*(approve() for _ in range(8)), return_exceptions=True)
    assert outcomes.count("approved") == 1
    assert sum(isinstance(outcome, settlement.PayoutMoved) for outcome in outcomes) == 7


async def a_store(db: Db, store_id: str, now) -> str:
    region = Region(code="510000", parent_code=None, level=RegionLevel.PROVINCE, zh="四川省")
    merchant = Merchant(id="mer_1", zh="蓉家福", en="Rongjiafu")
    store = Store(
        id=store_id,
        merchant_id="mer_1",
        region_code="510000",
        zh="科华北路店",
        address="科华北路 1 号",
        kind=StoreKind.SUPERMARKET,
        lon=104.07,
        lat=30.63,
        opens=now.time(),
        closes=now.time(),
    )
    await enrol(db, regions=[region], merchants=[merchant], stores=[store], now=now)
    return store_id


async def goods(db: Db, keyring, now, **given) -> tuple[Job, settlement.Payout]:
    ((seller, _),) = await sellers(db, keyring, 1, now=now)
    job = await secured(db, keyring, seller_id=seller, payee_id=None, now=now, method="goods", **given)
    return job, (await opened(db, [job], now=now))[0]


async def test_goods_wait_at_the_desk_and_are_handed_over_once(db: Db, keyring, now):
    await listen(db)
    store_id = await a_store(db, "sto_1", now)
    _, payout = await goods(db, keyring, now, store_id=store_id)
    assert payout.state is State.AWAITING_PAYEE
    assert await books(db, payout.seller_id) == (0, 92_00)
    handover = {"store_id": store_id, "actor_id": "opr_clerk", "now": now}
    (given,) = await settlement.hand_over_goods(db, [payout.id], **handover)
    assert given.state is State.SUCCEEDED
    assert await books(db, payout.seller_id) == (0, 0)
    merchant = postings.merchant_settlement("mer_1")
    assert (await ledger.balances(db, [merchant]))[merchant].balance_fen == 92_00
    assert len(await told(db, settlement.PAYOUT_SUCCEEDED)) == 1
    with pytest.raises(settlement.PayoutMoved):
        await settlement.hand_over_goods(db, [payout.id], **handover)


async def test_goods_are_handed_over_at_the_store_they_wait_at(db: Db, keyring, now):
    await a_store(db, "sto_2", now)
    _, payout = await goods(db, keyring, now, store_id="sto_1")
    with pytest.raises(NotFound):
        await settlement.hand_over_goods(db, [payout.id], store_id="sto_2", actor_id="opr_clerk", now=now)


async def test_cash_is_not_handed_over_a_desk(db: Db, keyring, now):
    await a_store(db, "sto_1", now)
    (payout,) = await opened(db, await owed_orders(db, keyring, 1, now=now), now=now)
    with pytest.raises(NotFound):
        await settlement.hand_over_goods(db, [payout.id], store_id="sto_1", actor_id="opr_clerk", now=now)
