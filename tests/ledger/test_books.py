"""The books of the past, periods that close, and who may write."""

import asyncio
import csv
import io
from datetime import UTC, date, datetime, timedelta

import asyncpg
import openpyxl
import pytest

from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import NotFound
from quanhui.ledger import (
    HoldAsked,
    LedgerBusy,
    PeriodClosed,
    PeriodLength,
    PeriodState,
    Transfer,
    close_period,
    closings,
    fold,
    fold_lag,
    hold,
    post,
    reopen_period,
    statement_over,
    trial_balance_at,
)
from quanhui.ledger.errors import PeriodClosedBefore, PeriodNotLast, PeriodNotOver, StatementTooLong
from quanhui.ledger.exports import Format, export_statement
from quanhui.ledger.history import Filters, journal

ANN = "user_payable:ann"
HOUR = timedelta(hours=1)
YESTERDAY = date(2026, 11, 21)
MIDNIGHT = datetime(2026, 11, 21, 16, tzinfo=UTC)
"""Of Shanghai, with which 22 November begins."""


def move(
    key: str, amount_fen: int, *, dst: str = ANN, event: str = "e", event_at: datetime | None = None
) -> Transfer:
    return Transfer(
        key=key,
        src="custody:bank",
        dst=dst,
        amount_fen=amount_fen,
        event=event,
        subject=key.partition(":")[0],
        event_at=event_at,
    )


async def payable_at(db: Db, instant: datetime, now: datetime) -> int:
    trial = await trial_balance_at(db, instant, now=now)
    assert (trial.total_fen, trial.client_fen) == (0, 0)
    return sum(line.balance_fen for line in trial.lines if line.prefix == "user_payable")


async def test_the_trial_balance_of_an_instant_counts_what_was_recorded_before_it(db: Db, now):
    for n in range(4):
        await post(db, [move(f"a{n}:1", 10**n)], now=now + n * HOUR)
    assert [await payable_at(db, now + n * HOUR, now + 9 * HOUR) for n in range(5)] == [0, 1, 11, 111, 1111]


@pytest.mark.parametrize("folded", [False, True])
async def test_the_past_is_the_same_however_much_is_folded(pool: Pool, now, folded):
    async with transaction(pool) as db:
        await post(db, [move("a:1", 5, dst="payout_pending")], now=now)
    async with transaction(pool) as db:
        await post(db, [move("a:2", 7, dst="payout_pending")], now=now + HOUR)
    async with transaction(pool) as db:
        if folded:
            assert await fold(db, now=now) == 2
        trial = await trial_balance_at(db, now + HOUR, now=now + 2 * HOUR)
    assert [line.balance_fen for line in trial.lines if line.prefix == "payout_pending"] == [5]


async def test_an_instant_is_final_once_no_open_transaction_can_write_there(pool: Pool, now):
    async with pool.acquire() as db:
        clock = await db.fetchval("SELECT now()")
        past, later = clock - timedelta(minutes=2), clock + HOUR
        assert (await trial_balance_at(db, past, now=later)).final
        async with transaction(pool) as slow:
            await post(slow, [move("a:1", 5)], now=clock)
            trial = await trial_balance_at(db, clock + timedelta(minutes=5), now=later)
            assert (trial.total_fen, trial.final) == (0, False)
            assert (await trial_balance_at(db, past, now=later)).final


async def test_a_statement_opens_where_the_one_before_it_closed(db: Db, now):
    await hold_some_history(db, now)
    first = await statement_over(db, ANN, since=now, until=now + 2 * HOUR, now=now)
    second = await statement_over(db, ANN, since=now + 2 * HOUR, until=now + 9 * HOUR, now=now)
    assert (first.opening_fen, first.credits_fen, first.debits_fen, first.closing_fen) == (0, 11, 4, 7)
    assert (second.opening_fen, second.credits_fen, second.debits_fen, second.closing_fen) == (7, 200, 0, 207)
    with pytest.raises(NotFound):
        await statement_over(db, "user_payable:never", since=now, until=now + HOUR, now=now)


async def hold_some_history(db: Db, now: datetime) -> None:
    await post(db, [move("a:1", 11)], now=now)
    out = Transfer(key="b:1", src=ANN, dst="payout_pending", amount_fen=4, event="out", subject="b")
    await post(db, [out], now=now + HOUR)
    await post(db, [move("c:1", 200)], now=now + 2 * HOUR)


async def test_both_files_tell_the_statement_line_by_line(db: Db, now):
    await hold_some_history(db, now)
    span = {"since": now, "until": now + 2 * HOUR, "now": now}
    with await export_statement(db, ANN, form=Format.CSV, **span) as file:
        text = file.read().decode("utf-8-sig")
    rows = [[row[3], row[5], row[6], row[7]] for row in csv.reader(io.StringIO(text))][1:]
    assert rows == [
        ["opening 期初", "", "", "0"],
        ["e", "custody:bank", "11", "11"],
        ["out", "payout_pending", "-4", "7"],
        ["closing 期末", "", "", "7"],
    ]
    with await export_statement(db, ANN, form=Format.XLSX, **span) as file:
        sheet = openpyxl.load_workbook(file).active
    cells = [[row[3], row[5], row[6], row[7]] for row in sheet.iter_rows(min_row=2, values_only=True)]
    assert [["" if cell is None else str(cell) for cell in row] for row in cells] == rows


async def test_a_statement_too_long_for_a_file_is_refused(db: Db, now, monkeypatch):
    await hold_some_history(db, now)
    monkeypatch.setattr("quanhui.ledger.exports.EXPORT_LINES", 1)
    with pytest.raises(StatementTooLong) as refused:
        await export_statement(db, ANN, since=now, until=now + 2 * HOUR, form=Format.CSV, now=now)
    assert refused.value.facts == {"transfers": 2, "at_most": 1}


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({}, ["c:1", "b:1", "a:1"]),
        ({"event": "out"}, ["b:1"]),
        ({"subject": "a"}, ["a:1"]),
        ({"account": "payout_pending"}, ["b:1"]),
        ({"min_fen": 11}, ["c:1", "a:1"]),
        ({"max_fen": 11, "account": ANN}, ["b:1", "a:1"]),
        ({"since": datetime(2026, 11, 22, 5, tzinfo=UTC)}, ["c:1", "b:1"]),
        ({"until": datetime(2026, 11, 22, 5, tzinfo=UTC)}, ["a:1"]),
        ({"until": datetime(2026, 12, 24, 5, tzinfo=UTC)}, []),
    ],
)
async def test_the_journal_is_narrowed_by_every_filter_given(db: Db, now, filters, keys):
    await hold_some_history(db, now)
    page = await journal(db, Filters(**filters), cursor=None, limit=10, now=now + 3 * HOUR)
    assert [line.key for line in page.items] == keys


async def test_a_closed_day_takes_no_transfer_and_the_next_one_does(db: Db, now):
    await post(db, [move("a:1", 5, event_at=MIDNIGHT - HOUR)], now=now)
    closed = await close_period(db, PeriodLength.DAY, YESTERDAY, person="staff_a", now=now)
    assert (closed.state, closed.ends_at) == (PeriodState.CLOSED, MIDNIGHT)
    await post(db, [move("b:1", 7, event_at=MIDNIGHT)], now=now)
    kept = await db.fetchval(
        "SELECT sum(balance_fen) FILTER (WHERE balance_fen > 0) FROM ledger.closing_balance"
    )
    assert kept == 5
    with pytest.raises(PeriodClosed) as refused:
        await post(db, [move("c:1", 1, event_at=MIDNIGHT - timedelta(microseconds=1))], now=now)
    assert refused.value.facts == {"closed_to": "2026-11-21T16:00:00Z"}


async def test_a_period_is_closed_once_it_is_over_and_once(db: Db, now):
    with pytest.raises(PeriodNotOver):
        await close_period(db, PeriodLength.DAY, date(2026, 11, 22), person="staff_a", now=now)
    with pytest.raises(PeriodNotOver):
        await close_period(db, PeriodLength.MONTH, YESTERDAY, person="staff_a", now=now)
    month = await close_period(db, PeriodLength.MONTH, date(2026, 10, 9), person="staff_a", now=now)
    assert (month.first_day, month.ends_at) == (date(2026, 10, 1), datetime(2026, 10, 31, 16, tzinfo=UTC))
    with pytest.raises(PeriodClosedBefore):
        await close_period(db, PeriodLength.DAY, date(2026, 10, 31), person="staff_a", now=now)


async def test_opening_a_period_again_takes_a_second_person_and_the_last_period(db: Db, now):
    first = await close_period(db, PeriodLength.MONTH, date(2026, 10, 1), person="staff_a", now=now)
    last = await close_period(db, PeriodLength.DAY, YESTERDAY, person="staff_a", now=now)
    with pytest.raises(PeriodNotLast):
        await reopen_period(db, first.id, person="staff_a", reason="late", now=now)
    for _ in range(2):
        asked = await reopen_period(db, last.id, person="staff_a", reason="late", now=now)
        assert asked.state is PeriodState.REOPENING
    opened = await reopen_period(db, last.id, person="staff_b", reason="late", now=now)
    assert (opened.state, opened.reopen_asked_by, opened.reopened_by) == ("reopened", "staff_a", "staff_b")
    await post(db, [move("a:1", 5, event_at=MIDNIGHT - HOUR)], now=now)
    again = await close_period(db, PeriodLength.DAY, YESTERDAY, person="staff_b", now=now)
    assert [each.id for each in (await closings(db, cursor=None, limit=2)).items] == [again.id, last.id]
    with pytest.raises(NotFound):
        await reopen_period(db, "per_x", person="staff_a", reason="late", now=now)


async def test_closing_waits_for_no_posting_that_stays_open_and_changes_nothing(pool: Pool, now):
    async with transaction(pool) as slow:
        await post(slow, [move("a:1", 5, event_at=MIDNIGHT - HOUR)], now=now)
        with pytest.raises(LedgerBusy):
            async with transaction(pool) as db:
                await close_period(db, PeriodLength.DAY, YESTERDAY, person="staff_a", now=now)
    async with transaction(pool) as db:
        await close_period(db, PeriodLength.DAY, YESTERDAY, person="staff_a", now=now)
        kept = await db.fetchval("SELECT max(balance_fen) FROM ledger.closing_balance")
    assert kept == 5


async def test_a_closing_beside_postings_keeps_what_was_posted_before_it_and_refuses_the_rest(
    pool: Pool, now
):
    async def post_one(n: int) -> bool:
        try:
            async with transaction(pool) as db:
                await post(db, [move(f"a{n}:1", 1, event_at=MIDNIGHT - HOUR)], now=now)
        except PeriodClosed:
            return False
        return True

    async def close() -> None:
        await asyncio.sleep(0.03)
        async with transaction(pool) as db:
            await close_period(db, PeriodLength.DAY, YESTERDAY, person="staff_a", now=now)

    *posted, _ = await asyncio.gather(*(post_one(n) for n in range(200)), close())
    async with pool.acquire() as db:
        kept = await db.fetchval("SELECT coalesce(max(balance_fen), 0) FROM ledger.closing_balance")
    assert kept == sum(posted)
    assert not await post_one(999)


async def test_folding_that_lags_rings_and_folding_ends_the_alarm(pool: Pool, now):
    async with transaction(pool) as db:
        await post(db, [move("a:1", 5), move("a:2", 5)], now=now)
    async with transaction(pool) as db:
        lag = await fold_lag(db, now=now + timedelta(seconds=60))
        assert (lag.transfers, lag.oldest_s, lag.alarm) == (2, 60, False)
        assert (await fold_lag(db, now=now + timedelta(seconds=61))).alarm
        await fold(db, now=now)
    async with pool.acquire() as db:
        lag = await fold_lag(db, now=now + HOUR)
    assert (lag.transfers, lag.oldest_s, lag.alarm, lag.same_cluster) == (0, 0, False, True)


async def test_a_ledger_restored_into_another_cluster_neither_folds_nor_posts_wrongly(db: Db, now):
    await db.execute("SET LOCAL quanhui.ledger_door = 'open'")
    await db.execute("UPDATE ledger.fold_mark SET cluster_id = 1, folded_to = '999999999999'")
    await db.execute("SET LOCAL quanhui.ledger_door = ''")
    assert (await fold_lag(db, now=now)).alarm
    for verb in (fold(db, now=now), post(db, [move("a:1", 1)], now=now)):
        with pytest.raises(asyncpg.PostgresError) as refused:
            async with db.transaction():
                await verb
        assert refused.value.sqlstate == "QH002"
        assert "Restore the cluster physically" in refused.value.hint


async def test_the_application_reads_the_ledger_and_writes_it_by_its_functions_alone(db: Db, now):
    await db.execute("SET LOCAL ROLE quanhui_app")
    await post(db, [move("a:1", 9)], now=now)
    await hold(db, [HoldAsked(key="h:1", account=ANN, amount_fen=4, subject="h")], now=now)
    assert await payable_at(db, now + HOUR, now) == 9
    await fold(db, now=now)
    await close_period(db, PeriodLength.DAY, YESTERDAY, person="staff_a", now=now)
    await db.execute("SET LOCAL quanhui.ledger_door = 'open'")
    tables = await db.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'ledger'::regnamespace AND relkind = 'r'"
    )
    assert len(tables) >= 8
    for table in tables:
        column = await db.fetchval(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 1",
            f"ledger.{table['relname']}",
        )
        for statement in (
            f"INSERT INTO ledger.{table['relname']} DEFAULT VALUES",
            f"UPDATE ledger.{table['relname']} SET {column} = DEFAULT",
            f"DELETE FROM ledger.{table['relname']}",
            f"TRUNCATE ledger.{table['relname']}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                async with db.transaction():
                    await db.execute(statement)
