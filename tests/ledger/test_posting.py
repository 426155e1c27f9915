"""What a posting may and may not do, told on one connection."""

import asyncpg
import pytest

from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.ledger import (
    Book,
    InsufficientBalance,
    Kind,
    Status,
    Transfer,
    TransferKeyConflict,
    accounts,
    balances,
    post,
    postings_of,
    reverse,
    statement,
    trial_balance,
)


def move(key: str, src: str, dst: str, amount_fen: int, *, event: str = "tested") -> Transfer:
    return Transfer(
        key=key, src=src, dst=dst, amount_fen=amount_fen, event=event, subject=key.partition(":")[0]
    )


def pay_in(key: str, customer: str, amount_fen: int) -> Transfer:
    return move(key, "custody:bank", f"user_payable:{customer}", amount_fen)


async def fen(db: Db, code: str) -> int:
    return (await balances(db, [code]))[code].balance_fen


async def test_the_source_is_debited_and_the_destination_credited(db: Db, now):
    outcomes = await post(db, [pay_in("a:1", "ann", 700)], now=now)
    assert [(outcome.key, outcome.status) for outcome in outcomes] == [("a:1", Status.POSTED)]
    found = await balances(db, ["custody:bank", "user_payable:ann", "user_payable:never"])
    assert {code: balance.balance_fen for code, balance in found.items()} == {
        "custody:bank": -700,
        "user_payable:ann": 700,
    }


async def test_an_account_opens_with_what_the_chart_says_of_its_prefix(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700), move("a:2", "inventory:p", "platform:clearing", 5)], now=now)
    found = await balances(db, ["user_payable:ann", "inventory:p"])
    guarded, deferred = found["user_payable:ann"], found["inventory:p"]
    assert (guarded.book, guarded.kind, guarded.floor_fen) == (Book.CLIENT, Kind.GUARDED, 0)
    assert (deferred.book, deferred.kind, deferred.floor_fen) == (Book.PLATFORM, Kind.DEFERRED, None)


async def test_the_same_key_and_content_posts_once_though_the_clock_has_moved(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    again = await post(db, [pay_in("a:1", "ann", 700)], now=now.replace(year=2027))
    assert [outcome.status for outcome in again] == [Status.DUPLICATE]
    assert await fen(db, "user_payable:ann") == 700


@pytest.mark.parametrize(
    "other",
    [
        pay_in("a:1", "ann", 701),
        pay_in("a:1", "bob", 700),
        move("a:1", "custody:other", "user_payable:ann", 700),
        move("a:1", "custody:bank", "user_payable:ann", 700, event="otherwise"),
    ],
)
async def test_a_key_used_for_another_transfer_refuses_the_whole_batch(db: Db, now, other):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    with pytest.raises(TransferKeyConflict) as refused:
        await post(db, [pay_in("a:2", "ann", 1), other], now=now)
    assert refused.value.facts == {"keys": ["a:1"]}
    assert await fen(db, "user_payable:ann") == 700
    assert await fen(db, "custody:bank") == -700


async def test_within_a_batch_the_first_use_of_a_key_counts(db: Db, now):
    same = await post(db, [pay_in("a:1", "ann", 700), pay_in("a:1", "ann", 700)], now=now)
    assert [outcome.status for outcome in same] == [Status.POSTED, Status.DUPLICATE]
    assert await fen(db, "user_payable:ann") == 700
    with pytest.raises(TransferKeyConflict) as refused:
        await post(db, [pay_in("b:1", "ann", 5), pay_in("b:2", "ann", 6), pay_in("b:1", "ann", 7)], now=now)
    assert refused.value.facts == {"keys": ["b:1"]}
    assert await fen(db, "user_payable:ann") == 700


async def test_a_guarded_account_never_goes_below_its_floor(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    with pytest.raises(InsufficientBalance) as refused:
        await post(db, [move("b:1", "user_payable:ann", "payout_pending", 701)], now=now)
    assert refused.value.facts == {"accounts": ["user_payable:ann"]}
    await post(db, [move("b:1", "user_payable:ann", "payout_pending", 700)], now=now)
    assert await fen(db, "user_payable:ann") == 0


async def test_a_batch_that_overdraws_together_posts_nothing(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    batch = [move(f"b:{n}", "user_payable:ann", "payout_pending", 300) for n in range(3)]
    with pytest.raises(InsufficientBalance):
        await post(db, [*batch, pay_in("b:9", "bob", 1)], now=now)
    assert await fen(db, "user_payable:ann") == 700
    assert await fen(db, "user_payable:bob") == 0
    assert await postings_of(db, "b") == []


async def test_the_guard_judges_where_a_batch_ends_and_not_its_order(db: Db, now):
    outcomes = await post(
        db,
        [move("a:1", "user_payable:ann", "client:clearing", 300), pay_in("a:2", "ann", 300)],
        now=now,
    )
    assert {outcome.status for outcome in outcomes} == {Status.POSTED}
    assert await fen(db, "user_payable:ann") == 0


async def test_a_duplicate_does_not_count_against_the_guard(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    spend = move("b:1", "user_payable:ann", "payout_pending", 500)
    await post(db, [spend], now=now)
    again = await post(db, [spend, move("b:2", "user_payable:ann", "payout_pending", 200)], now=now)
    assert [outcome.status for outcome in again] == [Status.DUPLICATE, Status.POSTED]


async def test_what_is_held_counts_inside_the_guard(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    await db.execute("SET LOCAL quanhui.ledger_door = 'open'")
    await db.execute("UPDATE ledger.account SET held_fen = 600 WHERE code = 'user_payable:ann'")
    await db.execute("SET LOCAL quanhui.ledger_door = ''")
    with pytest.raises(InsufficientBalance):
        await post(db, [move("b:1", "user_payable:ann", "payout_pending", 101)], now=now)
    await post(db, [move("b:1", "user_payable:ann", "payout_pending", 100)], now=now)


@pytest.mark.parametrize(
    ("transfer", "error"),
    [
        (move("a:1", "custody:bank", "own_funds", 1), asyncpg.CheckViolationError),
        (move("a:1", "custody:bank", "custody:bank", 1), asyncpg.CheckViolationError),
        (pay_in("a:1", "ann", 0), asyncpg.CheckViolationError),
        (move("a:1", "custody:bank", "payout_pending", -1), asyncpg.CheckViolationError),
        (move("a:1", "custody:bank", "petty_cash", 1), asyncpg.ForeignKeyViolationError),
        (move("a:1", "custody", "user_payable:ann", 1), asyncpg.ForeignKeyViolationError),
        (move("a:1", "custody:bank", "payout_pending:po_1", 1), asyncpg.ForeignKeyViolationError),
        (move("a:1", "custody:a b", "user_payable:ann", 1), asyncpg.CheckViolationError),
    ],
)
async def test_a_transfer_that_makes_no_sense_is_refused_by_the_database(db: Db, now, transfer, error):
    with pytest.raises(error):
        await post(db, [transfer], now=now)


async def test_a_key_that_does_not_start_with_its_subject_is_refused(db: Db, now):
    stray = Transfer(key="x:1", src="custody:b", dst="user_payable:a", amount_fen=1, event="e", subject="y")
    with pytest.raises(asyncpg.CheckViolationError):
        await post(db, [stray], now=now)


@pytest.mark.parametrize(
    "statement_of_a_meddler",
    [
        "UPDATE ledger.transfer SET amount_fen = 1",
        "DELETE FROM ledger.transfer",
        "TRUNCATE ledger.transfer",
        """INSERT INTO ledger.transfer (key, src, dst, amount_fen, event, subject, event_at, created_at)
           VALUES ('a:9', 1, 2, 5, 'e', 'a', now(), now())""",
        "UPDATE ledger.account SET balance_fen = balance_fen + 1",
        "DELETE FROM ledger.account",
        "TRUNCATE ledger.account",
        """INSERT INTO ledger.account (code, prefix, book, kind, balance_fen, opened_at)
           VALUES ('custody:x', 'custody', 'client', 'deferred', 5, now())""",
        "UPDATE ledger.fold_mark SET folded_to = '0'",
        "DELETE FROM ledger.fold_mark",
        "SET quanhui.ledger_door = 'open'; DELETE FROM ledger.transfer",
    ],
)
async def test_only_the_functions_write_even_for_the_owner(db: Db, now, statement_of_a_meddler):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.execute(statement_of_a_meddler)


async def test_a_role_without_grants_can_post_and_nothing_else(db: Db, now):
    await db.execute("CREATE ROLE clerk NOLOGIN; GRANT USAGE ON SCHEMA ledger TO clerk; SET LOCAL ROLE clerk")
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.execute("INSERT INTO ledger.account (code) VALUES ('custody:x')")


async def test_a_reversal_takes_the_money_back_once(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700), pay_in("a:2", "ann", 5)], now=now)
    first = await reverse(db, ["a:2", "a:1"], event="mistake", now=now)
    assert [(outcome.key, outcome.status) for outcome in first] == [
        ("a:1:reversed", Status.POSTED),
        ("a:2:reversed", Status.POSTED),
    ]
    again = await reverse(db, ["a:1"], event="mistake", now=now)
    assert [outcome.status for outcome in again] == [Status.DUPLICATE]
    assert await fen(db, "user_payable:ann") == 0
    original, _, reversal, _ = await postings_of(db, "a")
    assert (reversal.src, reversal.dst, reversal.amount_fen) == (original.dst, original.src, 700)
    assert reversal.reverses == original.id


async def test_a_reversal_needs_the_money_and_a_transfer_that_exists(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    await post(db, [move("b:1", "user_payable:ann", "payout_pending", 1)], now=now)
    with pytest.raises(InsufficientBalance):
        await reverse(db, ["a:1"], event="mistake", now=now)
    with pytest.raises(NotFound):
        await reverse(db, ["b:1", "never:1"], event="mistake", now=now)
    assert await fen(db, "user_payable:ann") == 699


async def test_no_other_transfer_can_claim_to_reverse_what_is_reversed(db: Db, now):
    await post(db, [pay_in("a:1", "ann", 700)], now=now)
    await reverse(db, ["a:1"], event="mistake", now=now)
    posted = (await postings_of(db, "a"))[0].id
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.execute(
            "SELECT ledger.post('{a:x}', '{payout_pending}', '{custody:b}', '{1}', '{e}', '{a}', $1, $2, $3)",
            [posted],
            [now],
            now,
        )


async def test_a_statement_shows_the_newest_first_and_pages_to_the_end(db: Db, now):
    await post(db, [pay_in(f"a:{n}", "ann", n + 1) for n in range(5)], now=now)
    await post(db, [move("b:1", "user_payable:ann", "payout_pending", 4), pay_in("c:1", "bob", 9)], now=now)
    seen, cursor = [], None
    while True:
        page = await statement(db, "user_payable:ann", cursor=cursor, limit=2)
        assert len(page.items) <= 2
        seen += page.items
        if page.next_cursor is None:
            break
        cursor = int(page.next_cursor)
    assert [line.key for line in seen] == ["b:1", "a:4", "a:3", "a:2", "a:1", "a:0"]
    with pytest.raises(NotFound):
        await statement(db, "user_payable:never", cursor=None, limit=2)


async def test_the_postings_of_a_subject_do_not_include_those_of_its_namesakes(db: Db, now):
    await post(db, [pay_in("ord_1:x:0", "ann", 1), pay_in("ord_10:x:0", "ann", 2)], now=now)
    assert [(p.src, p.dst, p.amount_fen) for p in await postings_of(db, "ord_1")] == [
        ("custody:bank", "user_payable:ann", 1)
    ]


async def test_accounts_are_listed_by_code_and_paged(db: Db, now):
    await post(db, [pay_in(f"a:{name}", name, 1) for name in ("cy", "ann", "bob")], now=now)
    page = await accounts(db, prefix="user_payable:", cursor=None, limit=2)
    assert [account.code for account in page.items] == ["user_payable:ann", "user_payable:bob"]
    rest = await accounts(db, prefix="user_payable:", cursor=page.next_cursor, limit=2)
    assert [account.code for account in rest.items] == ["user_payable:cy"]
    assert rest.next_cursor is None


async def test_the_trial_balance_shows_every_line_and_sums_to_zero(db: Db, now):
    await post(
        db,
        [
            pay_in("a:1", "ann", 700),
            pay_in("a:2", "bob", 50),
            move("b:1", "custody:bank", "client:clearing", 90),
            move("b:2", "platform:clearing", "own_funds", 90),
        ],
        now=now,
    )
    trial = await trial_balance(db)
    assert (trial.client_fen, trial.platform_fen, trial.total_fen, trial.clearing_fen) == (0, 0, 0, 0)
    sums = {line.prefix: (line.accounts, line.balance_fen) for line in trial.lines}
    assert sums["user_payable"] == (2, 750)
    assert sums["custody"] == (1, -840)
    assert sums["own_funds"] == (1, 90)
    assert sums["suspense"] == (0, 0)


async def test_an_event_posted_in_one_book_alone_shows_in_the_clearing(db: Db, now):
    await post(db, [move("b:1", "custody:bank", "client:clearing", 90)], now=now)
    trial = await trial_balance(db)
    assert (trial.total_fen, trial.clearing_fen) == (0, 90)
