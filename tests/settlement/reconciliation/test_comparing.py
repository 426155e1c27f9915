"""Every difference between bill, books and records is found once, and nothing else is."""

import asyncio
from datetime import datetime, timedelta

import msgspec
import pytest
from factories.bills import CHANNEL, NEXT_MORNING, TODAY, Channel, line, lines, paid, report

from quanhui import ledger, settlement
from quanhui.base.access import Actor, ActorKind
from quanhui.base.db import Pool, transaction
from quanhui.base.errors import NotFound, SecondPersonNeeded
from quanhui.settlement import BillKind, BillLine, CaseState, Class, Outcome, TransferState
from quanhui.settlement.reconciliation.errors import (
    CaseMoved,
)
from quanhui.settlement.reconciliation.rules import MAY_AGE, Case, due_days

MAKER = Actor(kind=ActorKind.STAFF, id="opr_maker", grants={})
CHECKER = Actor(kind=ActorKind.STAFF, id="opr_checker", grants={})


async def run(pool: Pool, channel: Channel, now: datetime, *, day=TODAY) -> list[Class]:
    """The classes of what comparing a day finds anew."""
    found = await settlement.run_day(pool, CHANNEL, channel, day, now=now)
    return sorted(case.class_ for case in found)


async def balances(pool: Pool) -> dict[str, int]:
    async with pool.acquire() as db:
        codes = [f"custody:{CHANNEL}", "suspense", "unidentified_receipts", "risk_reserve"]
        found = await ledger.balances(db, codes)
        assert (await ledger.trial_balance(db)).clearing_fen == 0
    return {code.split(":")[0]: each.balance_fen for code, each in found.items() if each.balance_fen}


async def the_case(pool: Pool) -> Case:
    async with pool.acquire() as db:
        (case,) = await settlement.list_cases(db, limit=10)
    return case


async def test_a_right_bill_has_no_differences(pool, keyring, now):
    channel, payouts = Channel(), await paid(pool, keyring, 5, now=now)
    channel.bills[TODAY] = lines(payouts, at=now)
    assert await run(pool, channel, now + NEXT_MORNING) == []
    assert await run(pool, channel, now + NEXT_MORNING) == []
    async with pool.acquire() as db:
        assert not [each for each in await settlement.compare_books(db) if each.books_fen != each.mirror_fen]


def twice(one: BillLine) -> BillLine:
    return msgspec.structs.replace(one, seq=one.seq + 1000)


def strange(one: BillLine) -> BillLine:
    return msgspec.structs.replace(one, seq=one.seq + 1000, out_no="nobodys")


def more(one: BillLine, fen: int) -> BillLine:
    return msgspec.structs.replace(one, amount_fen=one.amount_fen + fen)


@pytest.mark.parametrize(
    ("wrong", "class_", "held"),
    [
        (lambda right: right[1:], Class.MISSING_IN_BILL, {"unidentified_receipts": 92_00}),
        (lambda right: [*right, twice(right[0])], Class.DUPLICATE_IN_BILL, {"suspense": -92_00}),
        (lambda right: [*right, strange(right[0])], Class.MISSING_IN_BOOKS, {"suspense": -92_00}),
        (lambda right: [more(right[0], 1), *right[1:]], Class.AMOUNT_DIFFERS, {"suspense": -1}),
        (lambda right: [more(right[0], -1), *right[1:]], Class.AMOUNT_DIFFERS, {"unidentified_receipts": 1}),
    ],
    ids=["missing", "twice", "extra", "one fen more", "one fen less"],
)
async def test_each_class_is_found_once_and_stands_in_suspense(pool, keyring, now, wrong, class_, held):
    channel, payouts = Channel(), await paid(pool, keyring, 3, now=now)
    channel.bills[TODAY] = wrong(lines(payouts, at=now))
    assert await run(pool, channel, now + NEXT_MORNING) == [class_]
    assert await run(pool, channel, now + NEXT_MORNING) == []
    after = await balances(pool)
    assert after.pop("custody") == sum(each.amount_fen for each in channel.bills[TODAY])
    assert after == held


async def test_a_transfer_that_the_bill_has_and_we_think_failed_is_found(pool, keyring, now):
    channel = Channel()
    (payout,) = await paid(pool, keyring, 1, now=now, state=TransferState.FAILED)
    channel.bills[TODAY] = [line(payout, 1, at=now)]
    assert await run(pool, channel, now + NEXT_MORNING) == [Class.STATE_DIFFERS]
    await report(pool, [payout], TransferState.SUCCEEDED, now=now + NEXT_MORNING)
    assert await run(pool, channel, now + NEXT_MORNING) == []
    assert (await the_case(pool)).state is CaseState.EXPLAINED
    assert await balances(pool) == {"custody": 92_00}


async def test_what_was_booked_before_midnight_is_late_and_the_next_bill_explains_it(pool, keyring, now):
    channel, before_midnight = Channel(), now + timedelta(hours=11, minutes=30)
    payouts = await paid(pool, keyring, 1, now=before_midnight)
    channel.bills[TODAY] = []
    assert await run(pool, channel, now + NEXT_MORNING) == [Class.LATE]
    assert await balances(pool) == {"custody": 92_00}
    channel.bills[TODAY + timedelta(days=1)] = lines(payouts, at=now)
    tomorrow = {"day": TODAY + timedelta(days=1)}
    assert await run(pool, channel, now + 2 * NEXT_MORNING, **tomorrow) == []
    assert (await the_case(pool)).state is CaseState.EXPLAINED


async def test_what_is_not_in_the_next_bill_either_is_missing(pool, keyring, now):
    channel = Channel()
    await paid(pool, keyring, 1, now=now + timedelta(hours=11, minutes=30))
    channel.bills = {TODAY: [], TODAY + timedelta(days=1): []}
    await run(pool, channel, now + NEXT_MORNING)
    assert await run(pool, channel, now + 2 * NEXT_MORNING, day=TODAY + timedelta(days=1)) == []
    assert (await the_case(pool)).class_ is Class.MISSING_IN_BILL
    assert await balances(pool) == {"unidentified_receipts": 92_00}


async def test_a_posting_that_nothing_confirms_is_found(pool, keyring, now):
    channel, (payout,) = Channel(), await paid(pool, keyring, 1, now=now, state=TransferState.UNKNOWN)
    channel.bills[TODAY] = []
    async with transaction(pool) as db:
        posted = ledger.postings.payout_confirmed(
            settlement.out_no_of(payout.id, 1), institution=CHANNEL, amount_fen=payout.amount_fen
        )
        await ledger.post(db, posted, now=now)
    assert await run(pool, channel, now + NEXT_MORNING) == [Class.POSTED_NOT_IN_BILL]
    async with transaction(pool) as db:
        await ledger.reverse(db, [each.key for each in posted], event="posted_by_mistake", now=now)
    assert await run(pool, channel, now + NEXT_MORNING) == []
    assert (await the_case(pool)).state is CaseState.EXPLAINED
    assert await balances(pool) == {}


async def test_a_return_is_found_in_its_own_line(pool, keyring, now):
    channel, (payout,) = Channel(), await paid(pool, keyring, 1, now=now)
    await report(pool, [payout], TransferState.RETURNED, now=now)
    channel.bills[TODAY] = [line(payout, 1, at=now)]
    assert await run(pool, channel, now + NEXT_MORNING) == [Class.MISSING_IN_BILL]
    channel.bills[TODAY].append(line(payout, 2, at=now, kind=BillKind.RETURN))
    assert await run(pool, channel, now + NEXT_MORNING) == []
    assert (await the_case(pool)).state is CaseState.EXPLAINED


async def test_a_bill_that_changes_is_itself_a_difference(pool, keyring, now):
    channel, payouts = Channel(), await paid(pool, keyring, 2, now=now)
    channel.bills[TODAY] = lines(payouts, at=now)
    assert await run(pool, channel, now + NEXT_MORNING) == []
    channel.bills[TODAY] = [more(channel.bills[TODAY][0], 1), channel.bills[TODAY][1]]
    assert await run(pool, channel, now + NEXT_MORNING) == [Class.BILL_CHANGED]
    assert await run(pool, channel, now + NEXT_MORNING) == []


async def one_missing(pool: Pool, keyring, now: datetime) -> str:
    channel = Channel()
    await paid(pool, keyring, 1, now=now)
    channel.bills[TODAY] = []
    await run(pool, channel, now + NEXT_MORNING)
    return (await the_case(pool)).id


@pytest.mark.parametrize(
    ("outcome", "after"),
    [(Outcome.CORRECTED, {"custody": 92_00}), (Outcome.WRITTEN_OFF, {"risk_reserve": 92_00})],
)
async def test_a_case_is_closed_by_two_people(pool, keyring, now, outcome, after):
    case_id = await one_missing(pool, keyring, now)
    async with transaction(pool) as db:
        await settlement.propose_cases(db, [case_id], MAKER, outcome, note="与机构核对", now=now)
    with pytest.raises(SecondPersonNeeded):
        async with transaction(pool) as db:
            await settlement.approve_cases(db, [case_id], MAKER, note="同意处理", now=now)
    async with transaction(pool) as db:
        (case,) = await settlement.approve_cases(db, [case_id], CHECKER, note="同意处理", now=now)
    assert (case.state, case.proposed_by, case.decided_by) == (CaseState(outcome), MAKER.id, CHECKER.id)
    assert await balances(pool) == after
    with pytest.raises(CaseMoved):
        async with transaction(pool) as db:
            await settlement.approve_cases(db, [case_id], CHECKER, note="同意处理", now=now)


async def test_a_proposal_may_be_sent_back(pool, keyring, now):
    case_id = await one_missing(pool, keyring, now)
    async with transaction(pool) as db:
        await settlement.propose_cases(db, [case_id], MAKER, Outcome.WRITTEN_OFF, note="核销", now=now)
        (case,) = await settlement.reject_cases(db, [case_id], CHECKER, note="先问机构", now=now)
    assert case.state is CaseState.OPEN
    assert await balances(pool) == {"unidentified_receipts": 92_00}


async def test_nobody_decides_about_a_case_that_is_not_there(pool, now):
    with pytest.raises(NotFound):
        async with transaction(pool) as db:
            await settlement.approve_cases(db, ["rcc_nobodys"], CHECKER, note="同意处理", now=now)


async def test_a_case_that_ages_out_raises_the_alarm_once(pool, keyring, now):
    await one_missing(pool, keyring, now)
    told = []
    for later in (timedelta(), MAY_AGE + NEXT_MORNING, MAY_AGE + 2 * NEXT_MORNING):
        async with transaction(pool) as db:
            told.append(await settlement.alarm_overdue(db, now=now + later))
    assert told == [0, 1, 0]


async def test_bills_are_fetched_once_they_are_ready_and_a_silent_channel_is_asked_again(pool, keyring, now):
    channel, payouts = Channel(), await paid(pool, keyring, 2, now=now)
    morning = now + timedelta(hours=22)
    channels = {CHANNEL: channel}
    assert await settlement.fetch_bills(pool, channels, now=morning) == 0
    days = due_days(morning, [])
    assert days[-1] == TODAY
    channel.bills = {day: [] for day in days} | {TODAY: lines(payouts, at=now)}
    assert await settlement.fetch_bills(pool, channels, now=morning) == len(days)
    assert await settlement.fetch_bills(pool, channels, now=morning) == 0
    assert due_days(now + timedelta(hours=21, minutes=59), [])[-1] == TODAY - timedelta(days=1)


async def test_two_comparisons_at_once_find_a_difference_once(pool, keyring, now):
    channel = Channel()
    await paid(pool, keyring, 3, now=now)
    channel.bills[TODAY] = []
    found = await asyncio.gather(*(run(pool, channel, now + NEXT_MORNING) for _ in range(4)))
    assert sorted(map(len, found)) == [0, 0, 0, 3]
