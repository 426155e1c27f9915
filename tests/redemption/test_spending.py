import asyncio
from datetime import timedelta
from random import Random

import pytest
from factories.tills import balance, issue, open_trade, show, spend

from quanhui import evidence, ledger, redemption, vouchers
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import NotFound, Problem, TooManyAttempts
from quanhui.base.web import problem_view
from quanhui.catalogue import make_code
from quanhui.redemption import State, VoucherNotUsable, store
from quanhui.redemption.rules import (
    MACHINES,
    MOST_REFUSED_OPERATOR,
    MOST_REFUSED_STORE,
    REFUSED_WITHIN,
    Refusal,
    ReversalState,
)


@pytest.fixture
async def trade(db: Db, now):
    return await open_trade(db, now=now)


async def test_twenty_tills_at_once_never_overspend_one_voucher(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        trade = await open_trade(db, now=now)
        code, voucher = await issue(db, keyring, trade.card, now=now)

    async def till() -> int:
        async with transaction(pool) as db:
            return (await spend(db, keyring, trade, code, 10_00, now=now)).captured_fen

    outcomes = await asyncio.gather(*(till() for _ in range(20)), return_exceptions=True)
    assert outcomes.count(10_00) == 10
    assert sum(isinstance(outcome, Problem) for outcome in outcomes) == 10
    async with transaction(pool) as db:
        assert await balance(db, voucher.id) == (0, 0, 100_00)
        found = await ledger.balances(db, [f"merchant_settlement:{trade.till.merchant_id}"])
        assert [each.balance_fen for each in found.values()] == [100_00]


async def test_a_whole_voucher_shown_to_twenty_tills_is_spent_once(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        trade = await open_trade(db, now=now)
        code, _ = await issue(db, keyring, trade.ticket, now=now)

    async def till() -> int:
        async with transaction(pool) as db:
            return (await spend(db, keyring, trade, code, now=now)).captured_fen

    outcomes = await asyncio.gather(*(till() for _ in range(20)), return_exceptions=True)
    assert outcomes.count(100_00) == 1
    assert sum(isinstance(outcome, VoucherNotUsable) for outcome in outcomes) == 19


async def test_spending_posts_records_and_tells_once(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.card, now=now, holder_id="cus_1")
    spent = await spend(db, keyring, trade, code, 30_00, now=now)
    assert (spent.state, spent.captured_fen, spent.holder_id) == (State.CAPTURED, 30_00, "cus_1")
    assert (await redemption.find_redemptions(db, [spent.id])) == [spent]
    assert await balance(db, voucher.id) == (70_00, 0, 30_00)
    (event,) = await evidence.path_of(db, voucher.id)
    assert (event.kind, event.subject) == ("redeemed", spent.id)
    assert event.facts == {"amount_fen": 30_00, "store_id": trade.till.store_id}
    (posting,) = await ledger.postings_of(db, spent.id)
    assert posting.src == f"issuer_receivable:{trade.card.issuer_id}"
    assert posting.dst == f"merchant_settlement:{trade.till.merchant_id}"


async def test_without_an_amount_all_that_is_left_is_spent(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.card, now=now)
    await spend(db, keyring, trade, code, 30_00, now=now)
    assert (await spend(db, keyring, trade, code, now=now)).captured_fen == 70_00
    assert (await balance(db, voucher.id))[0] == 0


async def test_a_voucher_is_read_as_people_type_it(db: Db, keyring, trade, now):
    code, _ = await issue(db, keyring, trade.card, now=now)
    typed = " ".join(code[start : start + 4] for start in range(0, len(code), 4)).lower()
    assert (await spend(db, keyring, trade, typed, 1, now=now)).captured_fen == 1


async def test_more_than_is_left_is_refused_and_nothing_is_spent(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.card, now=now)
    with pytest.raises(redemption.AmountTooHigh) as refusal:
        await spend(db, keyring, trade, code, 100_01, now=now)
    assert refusal.value.facts == {"available_fen": 100_00}
    assert await balance(db, voucher.id) == (100_00, 0, 0)


async def test_a_product_that_is_spent_whole_is_not_spent_in_parts(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.ticket, now=now)
    with pytest.raises(redemption.WholeValueOnly) as refusal:
        await spend(db, keyring, trade, code, 99_99, now=now)
    assert refusal.value.facts == {"available_fen": 100_00}
    assert (await spend(db, keyring, trade, code, 100_00, now=now)).voucher_id == voucher.id


async def test_a_voucher_of_a_retired_product_lives_on(db: Db, keyring, trade, now):
    code, _ = await issue(db, keyring, trade.retired, now=now)
    assert (await spend(db, keyring, trade, code, now=now)).state is State.CAPTURED


async def test_a_voucher_is_spent_only_where_its_product_is_good(db: Db, keyring, trade, now):
    card, _ = await issue(db, keyring, trade.card, now=now)
    local, _ = await issue(db, keyring, trade.local, now=now)
    assert (await spend(db, keyring, trade, card, 1, till=trade.next_door, now=now)).captured_fen == 1
    assert (await spend(db, keyring, trade, local, 1, now=now)).captured_fen == 1
    for code, till in ((card, trade.far_away), (local, trade.next_door), (local, trade.far_away)):
        with pytest.raises(VoucherNotUsable) as refused:
            await spend(db, keyring, trade, code, 1, till=till, now=now)
        assert refused.value.refusal.reason == "out_of_scope"


async def refused_codes(db: Db, keyring, trade, now) -> dict[str, str]:
    """A code for each reason to refuse it."""
    codes = {"unreadable": "no such format", "unknown": make_code(trade.card.code_format, Random(1))}
    for reason in ("not_clear", "not_held", "spent", "dead_code"):
        codes[reason], voucher = await issue(db, keyring, trade.card, now=now)
        match reason:
            case "not_clear":
                await vouchers.set_integrity(db, [voucher.id], vouchers.Integrity.FROZEN)
            case "not_held":
                claim = vouchers.Claim(voucher.id, voucher.fingerprint, "ord_1", "cus_1")
                await vouchers.claim(db, [claim], now=now)
            case "spent":
                await spend(db, keyring, trade, codes[reason], now=now)
            case "dead_code":
                fresh = vouchers.seal_code(
                    keyring, voucher_id=voucher.id, issuer_id=voucher.issuer_id, code="RJNEW"
                )
                await vouchers.rekey(db, [fresh], now=now)
    codes["expired"], _ = await issue(db, keyring, trade.card, now=now, days=0)
    return codes


async def test_every_refused_code_looks_alike_and_the_reason_is_kept_inside(db: Db, keyring, trade, now):
    seen = set()
    for reason, code in (await refused_codes(db, keyring, trade, now)).items():
        for attempt in (spend, _check_balance):
            with pytest.raises(VoucherNotUsable) as refused:
                await attempt(db, keyring, trade, code, now=now)
            assert refused.value.refusal.reason == reason
            assert (refused.value.refusal.fingerprint is None) == (reason == "unreadable")
            view = problem_view(refused.value)
            seen.add((view.type, view.status, view.title, view.detail, str(view.facts)))
            assert code not in repr(refused.value)
    assert len(seen) == 1


async def _check_balance(db: Db, keyring, trade, code: str, *, now):
    return await redemption.check(db, keyring, trade.catalogue, code, trade.till, now=now)


async def test_checking_a_code_tells_its_worth_and_changes_nothing(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.card, now=now)
    usable = await _check_balance(db, keyring, trade, code, now=now)
    assert (usable.voucher.available_fen, usable.product.id) == (100_00, trade.card.id)
    assert await balance(db, voucher.id) == (100_00, 0, 0)


async def guess(db: Db, count: int, *, operator_id: str, store_id: str, now) -> None:
    refusal = Refusal(reason="unknown", fingerprint=None, store_id=store_id, operator_id=operator_id)
    await store.add_refusals(db, [refusal] * count, now=now)


async def test_who_had_too_many_codes_refused_waits_even_with_a_good_one(db: Db, keyring, trade, now):
    code, _ = await issue(db, keyring, trade.card, now=now)
    me = {"operator_id": trade.till.operator_id, "store_id": trade.till.store_id}
    await guess(db, MOST_REFUSED_OPERATOR - 1, **me, now=now)
    await spend(db, keyring, trade, code, 1, now=now)
    await guess(db, 1, **me, now=now + timedelta(minutes=1))
    soon = now + timedelta(minutes=2)
    with pytest.raises(TooManyAttempts) as blocked:
        await spend(db, keyring, trade, code, 1, now=soon)
    assert blocked.value.facts == {"retry_after_s": 480}
    assert await spend(db, keyring, trade, code, 1, till=trade.next_door, now=soon)
    assert await spend(db, keyring, trade, code, 1, now=now + REFUSED_WITHIN)


async def test_a_store_that_guesses_with_many_hands_waits_too(db: Db, keyring, trade, now):
    code, _ = await issue(db, keyring, trade.card, now=now)
    for number in range(MOST_REFUSED_STORE):
        await guess(db, 1, operator_id=f"opr_x{number}", store_id=trade.till.store_id, now=now)
    with pytest.raises(TooManyAttempts):
        await spend(db, keyring, trade, code, 1, now=now + timedelta(seconds=1))


async def test_a_till_that_repeats_its_reference_spends_nothing_twice(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        trade = await open_trade(db, now=now)
        code, voucher = await issue(db, keyring, trade.card, now=now)

    async def till():
        async with transaction(pool) as db:
            return await spend(db, keyring, trade, code, 10_00, till_reference="POS1-0001", now=now)

    outcomes = await asyncio.gather(*(till() for _ in range(8)), return_exceptions=True)
    (spent,) = [each for each in outcomes if isinstance(each, redemption.Redemption)]
    refused = [each for each in outcomes if isinstance(each, redemption.TillReferenceUsed)]
    assert [each.facts for each in refused] == [{"redemption_id": spent.id}] * 7
    async with transaction(pool) as db:
        assert await balance(db, voucher.id) == (90_00, 0, 10_00)
        other = await spend(
            db, keyring, trade, code, 1, till_reference="POS1-0001", till=trade.next_door, now=now
        )
        assert other.state is State.CAPTURED


async def test_an_amount_set_aside_is_captured_in_part_and_the_rest_is_free(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.card, now=now)
    held = await redemption.authorise(db, keyring, trade.catalogue, show(code, 60_00), trade.till, now=now)
    assert await balance(db, voucher.id) == (40_00, 60_00, 0)
    with pytest.raises(redemption.AmountTooHigh):
        await redemption.capture(db, held.id, amount_fen=60_01, now=now)
    taken = await redemption.capture(db, held.id, amount_fen=25_00, now=now)
    assert (taken.state, taken.captured_fen) == (State.CAPTURED, 25_00)
    assert await balance(db, voucher.id) == (75_00, 0, 25_00)
    for again in (redemption.capture, redemption.void):
        with pytest.raises(redemption.NotAuthorised):
            await again(db, held.id, now=now)
    with pytest.raises(NotFound):
        await redemption.void(db, "rdm_nobodys", now=now)


async def test_what_nobody_captures_in_time_is_free_again(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.card, now=now)
    held = [
        await redemption.authorise(db, keyring, trade.catalogue, show(code, amount), trade.till, now=now)
        for amount in (10_00, 20_00, 30_00)
    ]
    await redemption.void(db, held[0].id, now=now)
    assert await balance(db, voucher.id) == (50_00, 50_00, 0)
    end = now + redemption.AUTHORISED_FOR
    assert await redemption.sweep_authorisations(db, now=end - timedelta(microseconds=1)) == 0
    with pytest.raises(redemption.NotAuthorised):
        await redemption.capture(db, held[1].id, now=end)
    assert await redemption.sweep_authorisations(db, now=end) == 2
    assert await balance(db, voucher.id) == (100_00, 0, 0)
    found = await redemption.find_redemptions(db, [each.id for each in held])
    assert [each.state for each in found] == ["voided", "lapsed", "lapsed"]


async def test_a_voucher_frozen_after_it_was_authorised_is_not_captured(db: Db, keyring, trade, now):
    code, voucher = await issue(db, keyring, trade.card, now=now)
    held = await redemption.authorise(db, keyring, trade.catalogue, show(code), trade.till, now=now)
    await vouchers.set_integrity(db, [voucher.id], vouchers.Integrity.FROZEN)
    with pytest.raises(vouchers.CustodyChanged):
        await redemption.capture(db, held.id, now=now)


async def test_the_moves_of_the_database_are_those_of_the_rules(db: Db):
    for machine in MACHINES:
        rows = await db.fetch("SELECT from_state, to_state FROM base.move WHERE machine = $1", machine.name)
        ours = {(before, after) for before, afters in machine.moves.items() for after in afters}
        assert {tuple(row) for row in rows} == ours


@pytest.mark.parametrize(
    ("constraint", "states"), [("redemption_state", State), ("reversal_state", ReversalState)]
)
async def test_the_states_of_the_database_are_those_of_the_rules(db: Db, constraint, states):
    rule = await db.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint
    )
    assert set(rule.split("'")[1::2]) == set(states)
