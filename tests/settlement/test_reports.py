"""What the institution reports: any order, any repetition, one end; contradictions stop everything."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from asyncpg.connection import LoggedQuery
from factories.payouts import (
    books,
    listen,
    opened,
    owed_orders,
    reread,
    secured,
    sellers,
    sent,
    told,
    transfer_jobs,
)
from hypothesis import HealthCheck, given, settings, strategies as st

from quanhui import ledger, settlement
from quanhui.base.access import Actor, ActorKind, Scope
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.keyring import Keyring
from quanhui.ledger import postings
from quanhui.settlement import (
    CUSTODIAN,
    EventKind,
    Flag,
    InstitutionEvent,
    Payout,
    State,
    TransferReport,
    TransferState,
    out_no_of,
)
from quanhui.settlement.rules import MOST_SENDS

FINANCE = Actor(kind=ActorKind.STAFF, id="opr_1", grants={"settlement.approve": Scope.ALL})
AMOUNT_FEN = 92_00


def report(payout: Payout, state: TransferState, **more) -> TransferReport:
    given = {"out_no": out_no_of(payout.id, 1), "amount_fen": AMOUNT_FEN, **more}
    return TransferReport(state=state, **given)


async def one_going(db: Db, keyring: Keyring, now: datetime) -> Payout:
    (payout,) = await opened(db, await owed_orders(db, keyring, 1, now=now), now=now)
    await sent(db, payout)
    return payout


async def hear(db: Db, payout: Payout, *states: TransferState, now: datetime, **more) -> Payout:
    await settlement.record_reports(
        db, [report(payout, state, **more) for state in states], channel=CUSTODIAN, now=now
    )
    return (await settlement.find_payouts(db, [payout.id]))[payout.id]


SAID = {
    "accepted": (TransferState.ACCEPTED, {}),
    "awaiting": (TransferState.AWAITING_PAYEE, {}),
    "unknown": (TransferState.UNKNOWN, {"reason": "no_answer", "amount_fen": None}),
    "succeeded": (TransferState.SUCCEEDED, {}),
    "failed": (TransferState.FAILED, {"reason": "account_unusable"}),
    "returned": (TransferState.RETURNED, {"reason": "account_unusable"}),
    "one fen more": (TransferState.SUCCEEDED, {"amount_fen": AMOUNT_FEN + 1}),
}


async def end_of(db: Db, keyring: Keyring, now: datetime, words: list[list[str]]) -> tuple:
    payout = await one_going(db, keyring, now)
    for batch in words:
        reports = [report(payout, SAID[word][0], **SAID[word][1]) for word in batch]
        await settlement.record_reports(db, reports, channel=CUSTODIAN, now=now)
    after = (await settlement.find_payouts(db, [payout.id]))[payout.id]
    attempt = await db.fetchrow(
        "SELECT state, reason FROM settlement.attempt WHERE payout_id = $1", payout.id
    )
    owed = (await ledger.balances(db, [postings.user_payable(payout.seller_id)])).popitem()[1].balance_fen
    subjects = (out_no_of(payout.id, 1), f"{out_no_of(payout.id, 1)}-late")
    entries = [each for subject in subjects for each in await ledger.postings_of(db, subject)]
    pending = sum(
        each.amount_fen * ((each.dst == "payout_pending") - (each.src == "payout_pending"))
        for each in entries
    )
    custody = sum(
        each.amount_fen * ((each.dst == "custody:institution") - (each.src == "custody:institution"))
        for each in entries
    )
    return after.state, after.flag, after.failure, *attempt, owed, pending, custody


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
async def test_reports_in_any_order_and_number_lead_to_one_end(db: Db, keyring, now, data):
    words = data.draw(st.lists(st.sampled_from(sorted(SAID)), min_size=1, max_size=5, unique=True))
    again = data.draw(st.permutations(words + data.draw(st.lists(st.sampled_from(words), max_size=4))))
    cut = data.draw(st.integers(0, len(again)))
    usual = [[word] for word in sorted(words, key=list(SAID).index)]
    assert await end_of(db, keyring, now, [again[:cut], again[cut:]]) == await end_of(db, keyring, now, usual)


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (["succeeded"], (State.SUCCEEDED, None, 0, 0, AMOUNT_FEN)),
        (["failed"], (State.FAILED, None, AMOUNT_FEN, 0, 0)),
        (["succeeded", "accepted", "unknown"], (State.SUCCEEDED, None, 0, 0, AMOUNT_FEN)),
        (["succeeded", "failed"], (State.SUCCEEDED, Flag.CONTRADICTION, 0, 0, AMOUNT_FEN)),
        (["failed", "succeeded"], (State.SUCCEEDED, Flag.CONTRADICTION, 0, 0, AMOUNT_FEN)),
        (["returned"], (State.RETURNED, None, AMOUNT_FEN, 0, 0)),
        (["unknown"], (State.UNKNOWN, None, 0, AMOUNT_FEN, 0)),
        (["one fen more"], (State.SUBMITTED, Flag.AMOUNT_MISMATCH, 0, AMOUNT_FEN, 0)),
    ],
)
async def test_the_books_agree_with_each_end(db: Db, keyring, now, words, end):
    state, flag, _, _, _, owed, pending, custody = await end_of(db, keyring, now, [[word] for word in words])
    assert (state, flag, owed, pending, custody) == end


async def test_facts_are_told_once(db: Db, keyring, now):
    await listen(db)
    payout = await one_going(db, keyring, now)
    for _ in range(3):
        await hear(db, payout, TransferState.SUCCEEDED, TransferState.SUCCEEDED, now=now)
    about = {"order_id": payout.order_id, "payout_id": payout.id}
    assert await told(db, settlement.PAYOUT_SUCCEEDED) == [about]
    for _ in range(2):
        await hear(db, payout, TransferState.RETURNED, now=now, reason="account_unusable")
        await hear(db, payout, TransferState.FAILED, now=now)
    assert await told(db, settlement.PAYOUT_RETURNED) == [about | {"reason": "account_unusable"}]
    assert await told(db, settlement.PAYOUT_FLAGGED) == [about | {"flag": "contradiction"}]


async def test_a_failure_tells_whether_it_is_retried(db: Db, keyring, now):
    await listen(db)
    payout = await one_going(db, keyring, now)
    failed = await hear(db, payout, TransferState.FAILED, now=now, reason="institution_busy")
    assert failed.retry_at == now + timedelta(minutes=1)
    other = await one_going(db, keyring, now)
    await hear(db, other, TransferState.FAILED, now=now, reason="never heard of")
    retried = [fact["will_retry"] for fact in await told(db, settlement.PAYOUT_FAILED)]
    assert retried == [True, False]


async def test_passing_failures_are_retried_three_times_then_a_person_is_asked(db: Db, keyring, now):
    payout = await one_going(db, keyring, now)
    for number in (1, 2, 3):
        await sent(db, payout)
        given = {"out_no": out_no_of(payout.id, number), "reason": "institution_busy"}
        payout = await hear(db, payout, TransferState.FAILED, now=now, **given)
        retried = await settlement.retry_failed(db, now=now + timedelta(days=1))
        assert retried == (1 if number < 3 else 0)
    assert (payout.state, payout.attempts) == (State.FAILED, 3)


async def test_a_retry_that_is_no_longer_owed_is_left_to_a_person_and_holds_up_no_other(db: Db, keyring, now):
    await listen(db)
    poor, other = [await one_going(db, keyring, now) for _ in range(2)]
    for payout in (poor, other):
        await hear(db, payout, TransferState.FAILED, now=now, reason="institution_busy")
    taken = postings.stored_value_topup("clawback", customer_id=poor.seller_id, amount_fen=AMOUNT_FEN)
    await ledger.post(db, taken, now=now)
    later = now + timedelta(minutes=2)
    await settlement.retry_failed(db, now=later)
    assert await settlement.retry_failed(db, now=later) == 1
    found = await settlement.find_payouts(db, [poor.id, other.id])
    assert (found[poor.id].state, found[poor.id].retry_at) == (State.FAILED, None)
    assert found[other.id].state is State.SUBMITTED
    assert not (await told(db, settlement.PAYOUT_FAILED))[-1]["will_retry"]


async def test_success_of_an_earlier_transfer_after_a_new_one_stops_the_new_one(
    pool: Pool, keyring: Keyring, now
):
    async with transaction(pool) as db:
        payout = await one_going(db, keyring, now)
        await hear(db, payout, TransferState.FAILED, now=now, reason="account_unusable")
        (again,) = await settlement.retry_payouts(db, [payout.id], FINANCE, now=now)
        flagged = await hear(db, payout, TransferState.SUCCEEDED, now=now)
        with pytest.raises(settlement.PayoutMoved):
            await settlement.clear_flags(db, [payout.id], FINANCE, note="looked at", now=now)
    assert (flagged.flag, flagged.state) == (Flag.PAID_AFTER_RETRY, State.SUBMITTED)
    await settlement.send_transfers(
        pool, {CUSTODIAN: NobodyAnswers()}, keyring, transfer_jobs(again), now=now
    )
    assert (await reread(pool, again)).state is State.SUBMITTED


class NobodyAnswers:
    """An institution that must not be called."""

    async def send(self, *_orders, **_given):
        raise AssertionError("it was called")


async def test_late_success_when_nothing_is_owed_any_more_is_flagged_and_not_posted(db: Db, keyring, now):
    payout = await one_going(db, keyring, now)
    await hear(db, payout, TransferState.FAILED, now=now, reason="account_unusable")
    taken = postings.stored_value_topup("elsewhere", customer_id=payout.seller_id, amount_fen=AMOUNT_FEN)
    await ledger.post(db, taken, now=now)
    late = await hear(db, payout, TransferState.SUCCEEDED, now=now)
    assert (late.state, late.flag) == (State.SUCCEEDED, Flag.PAID_NOT_OWED)
    assert await books(db, payout.seller_id) == (0, 0)
    back = await hear(db, payout, TransferState.RETURNED, now=now)
    assert back.state is State.RETURNED
    assert await books(db, payout.seller_id) == (0, 0)


async def test_a_number_the_institution_never_takes_in_is_not_sent_for_ever(db: Db, keyring, now):
    await listen(db)
    payout = await one_going(db, keyring, now)
    for sends in range(1, MOST_SENDS + 1):
        await sent(db, payout, sends)
        payout = await hear(db, payout, TransferState.NOT_FOUND, now=now, amount_fen=None)
    assert payout.flag is Flag.NOT_ACCEPTED
    assert len(await told(db, settlement.TRANSFER_DUE)) == MOST_SENDS
    await settlement.clear_flags(db, [payout.id], FINANCE, note="institution was in maintenance", now=now)
    assert len(await told(db, settlement.TRANSFER_DUE)) == MOST_SENDS + 1
    last = (await settlement.timeline(db, payout.id))[-1]
    assert last.reason == "institution was in maintenance"
    with pytest.raises(settlement.PayoutMoved):
        await settlement.clear_flags(db, [payout.id], FINANCE, note="again", now=now)


async def test_not_found_never_takes_back_what_is_known(db: Db, keyring, now):
    payout = await one_going(db, keyring, now)
    await hear(db, payout, TransferState.ACCEPTED, TransferState.NOT_FOUND, now=now)
    assert await db.fetchval("SELECT state FROM settlement.attempt") == "accepted"


async def test_a_number_that_is_not_ours_is_told_and_harms_no_other(db: Db, keyring, now):
    await listen(db)
    payout = await one_going(db, keyring, now)
    stranger = TransferReport(out_no="nobody1", state=TransferState.SUCCEEDED, amount_fen=5)
    reports = [stranger, report(payout, TransferState.SUCCEEDED)]
    await settlement.record_reports(db, reports, channel=CUSTODIAN, now=now)
    fact = {"out_no": "nobody1", "state": "succeeded", "amount_fen": 5}
    assert await told(db, settlement.TRANSFER_UNRECOGNISED) == [fact]
    assert (await settlement.find_payouts(db, [payout.id]))[payout.id].state is State.SUCCEEDED


async def test_payments_and_refunds_in_a_callback_become_facts_once(db: Db, now):
    await listen(db)
    events = [
        InstitutionEvent(id="ev_1", kind=EventKind.PAYMENT_SUCCEEDED, out_no="p1", amount_fen=7, at=now),
        InstitutionEvent(id="ev_2", kind=EventKind.REFUND_FAILED, out_no="r1", amount_fen=7, at=now),
    ]
    assert await settlement.take_events(db, [*events, events[0]], now=now) == 2
    assert await settlement.take_events(db, events, now=now) == 0
    paid = {"out_no": "p1", "state": "succeeded", "amount_fen": 7}
    assert await told(db, settlement.PAYMENT_REPORTED) == [paid]
    refused = {"out_no": "r1", "state": "failed", "amount_fen": 7}
    assert await told(db, settlement.REFUND_REPORTED) == [refused]
    assert await settlement.forget_notifications(db, now=now + timedelta(days=8)) == 2


async def test_each_step_takes_few_statements_for_a_hundred_payouts(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        people = await sellers(db, keyring, 100, now=now)
        jobs = [
            await secured(db, keyring, seller_id=seller, payee_id=payee, now=now) for seller, payee in people
        ]
        await listen(db)
        with counted(db) as statements:
            await settlement.open_payouts(db, jobs, now=now)
            await asyncio.sleep(0)
        assert 0 < len(statements) <= 10, statements
        payouts = await settlement.list_payouts(db, limit=100)
        for payout in payouts:
            await sent(db, payout)
        await asyncio.sleep(0)
        reports = [report(payout, TransferState.SUCCEEDED) for payout in payouts]
        with counted(db) as statements:
            await settlement.record_reports(db, reports, channel=CUSTODIAN, now=now)
            await asyncio.sleep(0)
        assert 0 < len(statements) <= 6, statements
        assert len(await told(db, settlement.PAYOUT_SUCCEEDED)) == 100


@contextmanager
def counted(db: Db) -> Iterator[list[str]]:
    """The statements that run meanwhile; asyncpg tells of each a turn of the loop later."""
    statements: list[str] = []

    def note(query: LoggedQuery) -> None:
        if "typeinfo" not in query.query:  # asyncpg learns a type once a connection
            statements.append(query.query)

    db.add_query_logger(note)
    yield statements
    db.remove_query_logger(note)
