"""What merchants are owed: statements are complete, frozen, agreed, paid once, and equal the ledger."""

from datetime import date, timedelta

import asyncpg
import pytest
from factories.payouts import secured, sellers
from factories.tills import issue, open_trade, spend

from quanhui import ledger, redemption, settlement, story
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import MalformedRequest, SecondPersonNeeded
from quanhui.base.outbox import Job
from quanhui.ledger import postings
from quanhui.redemption import State
from quanhui.redemption.merchants import agreeing, drawing, paying, store
from quanhui.redemption.merchants.errors import (
    BankReferenceUsed,
    ContractOverlaps,
    LineDisputed,
    StatementMoved,
)
from quanhui.redemption.merchants.rules import SILENCE_AGREES_AFTER, StatementState
from quanhui.redemption.merchants.store import queries

DAY = date(2026, 11, 22)
MORNING_AFTER = timedelta(hours=14)
"""From midday to two in the morning: the day is over."""


@pytest.fixture
async def trade(db: Db, now):
    opened = await open_trade(db, now=now)
    await ledger.post(db, postings.fund_institution("fnd_1", institution="bank", amount_fen=10**9), now=now)
    return opened


async def sell(db: Db, keyring, trade, amount_fen: int, *, now, till=None):
    code, _ = await issue(db, keyring, trade.card, now=now)
    return await spend(db, keyring, trade, code, amount_fen, till=till, now=now)


async def reverse(db: Db, redemption_id: str, amount_fen: int, *, now):
    return await redemption.reverse(
        db, redemption_id, amount_fen=amount_fen, reason="顾客退货", operator_id="opr_1", now=now
    )


async def statements(db: Db, merchant_id: str):
    rows = await queries.list_statements(
        db, merchant_id=merchant_id, state=None, since=None, until=None, before=None, limit=50
    )
    return [store.statement_of(row) for row in rows]


async def lines(db: Db, statement):
    rows = await queries.list_lines(
        db, merchant_id=statement.merchant_id, day=statement.day, after=0, limit=1000
    )
    return [store.line_of(row) for row in rows]


async def draw(db: Db, merchant_id: str, *, now):
    await redemption.draw_statements(db, now=now)
    return (await statements(db, merchant_id))[0]


async def agree_and_pay(db: Db, statement, *, now, reference: str = "BANK-0001"):
    await agreeing.confirm_statement(db, statement.id, actor_id="opr_m", now=now)
    await redemption.release_statements(db, now=now)
    await paying.record_transfer(
        db, statement.id, institution="bank", reference=reference, actor_id="stf_maker", now=now
    )
    return await paying.check_transfer(
        db, statement.id, confirmed=True, note=None, actor_id="stf_checker", now=now
    )


async def balance_of(db: Db, code: str) -> int:
    found = await ledger.balances(db, [code])
    return found[code].balance_fen if code in found else 0


async def position(db: Db, merchant_id: str) -> int:
    """What a merchant is owed, less what it owes."""
    owed = await balance_of(db, postings.merchant_settlement(merchant_id))
    return owed + await balance_of(db, postings.merchant_receivable(merchant_id))


async def set_fee(db: Db, merchant_id: str, fee_bps: int, *, now):
    """In force on the day of the tests, agreed two days before."""
    return await agreeing.add_contract(
        db,
        merchant_id,
        fee_bps=fee_bps,
        valid_from=DAY,
        valid_to=None,
        actor_id="stf_1",
        now=now - timedelta(days=2),
    )


async def test_a_statement_is_what_was_redeemed_that_day_less_what_was_taken_back(
    db: Db, keyring, trade, now
):
    merchant_id = trade.till.merchant_id
    spent = await sell(db, keyring, trade, 60_00, now=now)
    await sell(db, keyring, trade, 15_00, till=trade.next_door, now=now)
    await sell(db, keyring, trade, 99_00, now=now + timedelta(hours=12))
    await reverse(db, spent.id, 10_00, now=now + timedelta(hours=1))
    statement = await draw(db, merchant_id, now=now + MORNING_AFTER)
    assert (statement.day, statement.lines, statement.net_fen) == (DAY, 3, 65_00)
    assert [line.amount_fen for line in await lines(db, statement)] == [60_00, 15_00, -10_00]
    assert await position(db, merchant_id) == 65_00 + 99_00
    traced = [await ledger.postings_of(db, line.subject) for line in await lines(db, statement)]
    assert [sum(posting.amount_fen for posting in of_line) for of_line in traced] == [60_00, 15_00, 10_00]


async def test_a_day_is_not_run_before_it_is_over_and_once_only(db: Db, keyring, trade, now):
    await sell(db, keyring, trade, 60_00, now=now)
    assert await redemption.draw_statements(db, now=now + timedelta(hours=12)) == 0
    assert await redemption.draw_statements(db, now=now + MORNING_AFTER) == 1
    assert await redemption.draw_statements(db, now=now + MORNING_AFTER) == 0


async def test_what_was_committed_after_its_day_was_run_stands_on_the_next_statement(
    db: Db, keyring, trade, now
):
    merchant_id = trade.till.merchant_id
    await sell(db, keyring, trade, 60_00, now=now)
    await draw(db, merchant_id, now=now + MORNING_AFTER)
    late = await sell(db, keyring, trade, 7_00, now=now + timedelta(minutes=1))
    statement = await draw(db, merchant_id, now=now + timedelta(days=1) + MORNING_AFTER)
    assert [line.subject for line in await lines(db, statement)] == [late.id]


async def test_a_fee_follows_the_contract_of_the_day_and_goes_back_with_what_is_taken_back(
    db: Db, keyring, trade, now
):
    merchant_id = trade.till.merchant_id
    await set_fee(db, merchant_id, 75, now=now)
    spent = await sell(db, keyring, trade, 99_99, now=now)
    for _ in range(3):
        await reverse(db, spent.id, 33_33, now=now)
    statement = await draw(db, merchant_id, now=now + MORNING_AFTER)
    fees = [line.fee_fen for line in await lines(db, statement)]
    assert fees[0] == 75
    assert sum(fees) == 0
    assert (statement.gross_fen, statement.net_fen) == (0, 0)


async def test_a_contract_begins_after_today_and_once(db: Db, trade, now):
    terms = {"valid_to": None, "actor_id": "stf_1", "now": now}
    merchant_id = trade.till.merchant_id
    with pytest.raises(ContractOverlaps):
        await agreeing.add_contract(db, merchant_id, fee_bps=60, valid_from=DAY, **terms)
    tomorrow = DAY + timedelta(days=1)
    await agreeing.add_contract(db, merchant_id, fee_bps=60, valid_from=tomorrow, **terms)
    with pytest.raises(ContractOverlaps):
        await agreeing.add_contract(db, merchant_id, fee_bps=50, valid_from=tomorrow, **terms)


async def test_paying_posts_the_fee_and_the_net_and_leaves_nothing_owed(db: Db, keyring, trade, now):
    merchant_id = trade.till.merchant_id
    await set_fee(db, merchant_id, 60, now=now)
    spent = await sell(db, keyring, trade, 100_00, now=now)
    later = now + MORNING_AFTER
    statement = await draw(db, merchant_id, now=later)
    assert (statement.gross_fen, statement.fee_fen, statement.net_fen) == (100_00, 60, 99_40)
    assert await position(db, merchant_id) == 100_00
    await agree_and_pay(db, statement, now=later)
    assert await position(db, merchant_id) == 0
    assert await balance_of(db, "fee_income") == 60
    assert await balance_of(db, "custody:bank") == -(10**9) + 99_40
    assert (await store.find_statements(db, [statement.id]))[0].state is StatementState.PAID
    assert (await redemption.find_redemptions(db, [spent.id]))[0].state is State.SETTLED
    trial = await ledger.trial_balance(db)
    assert (trial.client_fen, trial.platform_fen, trial.clearing_fen) == (0, 0, 0)


async def test_who_recorded_a_transfer_does_not_confirm_it_and_a_reference_pays_once(
    db: Db, keyring, trade, now
):
    later = now + MORNING_AFTER
    await sell(db, keyring, trade, 10_00, now=now)
    await sell(db, keyring, trade, 20_00, till=trade.next_door, now=now + timedelta(days=1))
    await redemption.draw_statements(db, now=later + timedelta(days=1))
    second, first = await statements(db, trade.till.merchant_id)
    for each in (first, second):
        with pytest.raises(StatementMoved):
            await paying.record_transfer(
                db, each.id, institution="bank", reference="REF-1", actor_id="stf_1", now=later
            )
        await agreeing.confirm_statement(db, each.id, actor_id="opr_m", now=later)
    await redemption.release_statements(db, now=later)
    with pytest.raises(MalformedRequest):
        await paying.record_transfer(
            db, first.id, institution="typo", reference="REF-1", actor_id="stf_1", now=later
        )
    by = {"institution": "bank", "reference": "REF-1", "actor_id": "stf_1", "now": later}
    await paying.record_transfer(db, first.id, **by)
    with pytest.raises(BankReferenceUsed):
        await paying.record_transfer(db, second.id, **by)
    check = {"confirmed": True, "note": None, "now": later}
    with pytest.raises(SecondPersonNeeded):
        await paying.check_transfer(db, first.id, actor_id="stf_1", **check)
    await paying.check_transfer(db, first.id, actor_id="stf_2", **check)
    with pytest.raises(StatementMoved):
        await paying.check_transfer(db, first.id, actor_id="stf_2", **check)


async def test_a_refused_record_posts_nothing_and_the_transfer_can_be_recorded_anew(
    db: Db, keyring, trade, now
):
    later = now + MORNING_AFTER
    await sell(db, keyring, trade, 10_00, now=now)
    statement = await draw(db, trade.till.merchant_id, now=later)
    await agreeing.confirm_statement(db, statement.id, actor_id="opr_m", now=later)
    await redemption.release_statements(db, now=later)
    by = {"institution": "bank", "reference": "REF-1", "actor_id": "stf_1", "now": later}
    await paying.record_transfer(db, statement.id, **by)
    await paying.check_transfer(
        db, statement.id, confirmed=False, note="回单金额不符", actor_id="stf_2", now=later
    )
    assert await position(db, trade.till.merchant_id) == 10_00
    await paying.record_transfer(db, statement.id, **by)


async def test_what_is_taken_back_after_payment_is_carried_over_to_the_next_statement(
    db: Db, keyring, trade, now
):
    merchant_id = trade.till.merchant_id
    day = timedelta(days=1)
    spent = await sell(db, keyring, trade, 50_00, now=now)
    await agree_and_pay(db, await draw(db, merchant_id, now=now + MORNING_AFTER), now=now + MORNING_AFTER)
    await reverse(db, spent.id, 50_00, now=now + day)
    assert await position(db, merchant_id) == -50_00
    empty = await draw(db, merchant_id, now=now + day + MORNING_AFTER)
    assert (empty.net_fen, empty.state) == (-50_00, StatementState.DRAWN)
    await redemption.release_statements(db, now=now + day + MORNING_AFTER + SILENCE_AGREES_AFTER)
    assert (await store.find_statements(db, [empty.id]))[0].state is StatementState.CARRIED
    await sell(db, keyring, trade, 80_00, now=now + 5 * day)
    following = await draw(db, merchant_id, now=now + 5 * day + MORNING_AFTER)
    assert (following.carried_gross_fen, following.net_fen) == (-50_00, 30_00)
    assert (await store.find_statements(db, [empty.id]))[0].carried_to == following.id
    await agree_and_pay(db, following, now=now + 6 * day, reference="BANK-0002")
    assert await position(db, merchant_id) == 0
    assert await balance_of(db, postings.merchant_settlement(merchant_id)) == 0
    assert await balance_of(db, "custody:bank") == -(10**9) + 80_00


async def test_a_disputed_line_is_answered_by_one_person_and_settled_by_another(db: Db, keyring, trade, now):
    merchant_id, later = trade.till.merchant_id, now + MORNING_AFTER
    await sell(db, keyring, trade, 40_00, now=now)
    statement = await draw(db, merchant_id, now=later)
    (line,) = await lines(db, statement)
    disputed = await agreeing.dispute_line(
        db, statement.id, line.id, reason="少记 5 元", actor_id="opr_m", now=later
    )
    with pytest.raises(LineDisputed):
        await agreeing.dispute_line(db, statement.id, line.id, reason="再次", actor_id="opr_m", now=later)
    with pytest.raises(StatementMoved):
        await agreeing.confirm_statement(db, statement.id, actor_id="opr_m", now=later)
    assert await redemption.release_statements(db, now=later + 9 * SILENCE_AGREES_AFTER) == 0
    answer = {"correction_fen": 5_00, "answer": "核对收银流水属实", "actor_id": "stf_1", "now": later}
    await agreeing.answer_dispute(db, disputed.id, **answer)
    with pytest.raises(SecondPersonNeeded):
        await agreeing.settle_dispute(db, disputed.id, agreed=True, actor_id="stf_1", now=later)
    reopened = await agreeing.settle_dispute(db, disputed.id, agreed=False, actor_id="stf_2", now=later)
    assert reopened.answer is None
    await agreeing.answer_dispute(db, disputed.id, **answer)
    await agreeing.settle_dispute(db, disputed.id, agreed=True, actor_id="stf_2", now=later)
    (corrected,) = await statements(db, merchant_id)
    assert (corrected.state, corrected.net_fen, corrected.lines) == (StatementState.CORRECTED, 45_00, 2)
    assert await position(db, merchant_id) == 45_00
    assert await balance_of(db, "suspense") == -5_00


async def test_a_dispute_that_changes_nothing_confirms_the_statement(db: Db, keyring, trade, now):
    later = now + MORNING_AFTER
    await sell(db, keyring, trade, 40_00, now=now)
    statement = await draw(db, trade.till.merchant_id, now=later)
    (line,) = await lines(db, statement)
    disputed = await agreeing.dispute_line(
        db, statement.id, line.id, reason="不是本店", actor_id="opr_m", now=later
    )
    await agreeing.answer_dispute(db, disputed.id, correction_fen=0, answer="是", actor_id="stf_1", now=later)
    await agreeing.settle_dispute(db, disputed.id, agreed=True, actor_id="stf_2", now=later)
    assert (await store.find_statements(db, [statement.id]))[0].state is StatementState.CONFIRMED


async def test_a_campaign_is_taken_from_what_is_owed_even_when_that_is_not_enough(
    db: Db, keyring, trade, now
):
    merchant_id = trade.till.merchant_id
    await sell(db, keyring, trade, 30_00, now=now)
    charge = {"note": "联合满减", "actor_id": "stf_1", "now": now}
    await drawing.charge_merchant(db, merchant_id, amount_fen=20_00, **charge)
    await drawing.charge_merchant(db, merchant_id, amount_fen=15_00, **charge)
    assert await balance_of(db, postings.merchant_settlement(merchant_id)) == 0
    assert await balance_of(db, postings.merchant_receivable(merchant_id)) == -5_00
    statement = await draw(db, merchant_id, now=now + MORNING_AFTER)
    assert statement.net_fen == await position(db, merchant_id) == -5_00


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE redemption.statement_line SET amount_fen = 1",
        "DELETE FROM redemption.statement_line",
        """INSERT INTO redemption.statement_line
               (merchant_id, day, kind, subject, amount_fen, fee_bps, fee_fen, happened_at)
           SELECT merchant_id, day, 'goods', 'x', 1, 0, 0, drawn_at FROM redemption.statement""",
        "UPDATE redemption.statement SET lines_gross_fen = lines_gross_fen + 1",
        "UPDATE redemption.statement SET state = 'paid', paid_at = drawn_at",
    ],
)
async def test_the_database_refuses_to_change_what_was_drawn(db: Db, keyring, trade, now, change):
    await sell(db, keyring, trade, 30_00, now=now)
    await draw(db, trade.till.merchant_id, now=now + MORNING_AFTER)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await db.execute(change)


async def test_two_runs_at_once_draw_a_day_once(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        trade = await open_trade(db, now=now)
        await sell(db, keyring, trade, 30_00, now=now)
    async with transaction(pool) as one, pool.acquire() as other:
        assert await redemption.draw_statements(one, now=now + MORNING_AFTER) == 1
        await other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await redemption.draw_statements(other, now=now + MORNING_AFTER)
        await other.execute("RESET lock_timeout")
    async with transaction(pool) as db:
        assert await redemption.draw_statements(db, now=now + MORNING_AFTER) == 0


async def test_goods_handed_over_stand_on_the_statement_of_the_stores_merchant(db: Db, keyring, trade, now):
    ((seller_id, _),) = await sellers(db, keyring, 1, now=now)
    job = await secured(db, keyring, seller_id=seller_id, payee_id=None, now=now, method="goods")
    await settlement.open_payouts(db, [job], now=now)
    (payout_id,) = [row["id"] for row in await db.fetch("SELECT id FROM settlement.payout")]
    clerk = {"store_id": trade.till.store_id, "actor_id": "opr_clerk", "now": now}
    await settlement.hand_over_goods(db, [payout_id], **clerk)
    heard = Job(2, settlement.PAYOUT_SUCCEEDED, payout_id, {"payout_id": payout_id}, 0)
    for _ in range(2):
        await story.owe_for_goods(db, [heard], now)
    statement = await draw(db, trade.till.merchant_id, now=now + MORNING_AFTER)
    (line,) = await lines(db, statement)
    assert (line.kind, line.subject, line.amount_fen, line.fee_fen) == ("goods", payout_id, 92_00, 0)
    assert await position(db, trade.till.merchant_id) == statement.net_fen == 92_00
