"""Several channels: which takes what, what a silent or stopped one means, and that nothing goes out twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import aiohttp
import pytest
from factories.payouts import books, hurry, opened, owed_orders, reread, transfer_jobs
from fakes.outside import Sandbox, http_client, start_sandbox

from quanhui import ledger, settlement, staff
from quanhui.base import clock
from quanhui.base.access import Actor, ActorKind, Scope
from quanhui.base.db import Pool, transaction
from quanhui.base.errors import NotFound
from quanhui.base.keyring import Keyring
from quanhui.ledger import postings
from quanhui.settlement import Payout, SandboxInstitution, State, TransferReport, TransferState
from quanhui.settlement.channel_store import list_channels
from quanhui.settlement.routing import Standing, standing

FINANCE = Actor(kind=ActorKind.STAFF, id="opr_1", grants={"settlement.approve": Scope.ALL})
FIRST, SECOND = "institution", "other_bank"


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory):
    parties = [start_sandbox("institution", tmp_path_factory.mktemp(name), settle_s=0.05) for name in "ab"]
    yield parties
    for party in parties:
        party.stop()


@pytest.fixture
def two(banks: list[Sandbox]) -> tuple[Sandbox, Sandbox]:
    for bank in banks:
        bank.behave()
    return banks[0], banks[1]


@pytest.fixture
async def channels(two: tuple[Sandbox, Sandbox]) -> AsyncIterator[settlement.Channels]:
    async with http_client() as http:
        yield {name: _speak_to(bank, http) for name, bank in zip((FIRST, SECOND), two, strict=True)}


def _speak_to(bank: Sandbox, http: aiohttp.ClientSession) -> SandboxInstitution:
    secrets = {"secret": bank.secret, "callback_secret": bank.callback_secret}
    return SandboxInstitution(http, base_url=bank.url, timeout_s=0.5, **secrets)


async def add_second(pool: Pool, **given) -> None:
    """A second channel, dearer than the first unless given otherwise."""
    terms = {"cost_fen": 10, "cost_bps": 0, "min_fen": 1, "max_fen": 1_000_000, **given}
    await pool.execute(
        "INSERT INTO settlement.channel"
        " (name, zh, en, enabled, priority, payee_kinds, cost_fen, cost_bps, min_fen, max_fen)"
        " VALUES ($1, '另一银行', 'Other bank', true, 1, '{sandbox}', $2, $3, $4, $5)",
        SECOND,
        *terms.values(),
    )


async def going(pool: Pool, keyring: Keyring, count: int = 1) -> list[Payout]:
    now = clock.now()
    async with transaction(pool) as db:
        return await opened(db, await owed_orders(db, keyring, count, now=now), now=now)


async def send(
    pool: Pool, channels: settlement.Channels, keyring: Keyring, *payouts: Payout, at: datetime | None = None
) -> None:
    await settlement.send_transfers(pool, channels, keyring, transfer_jobs(*payouts), now=at or clock.now())


async def sent_through(pool: Pool, payout: Payout) -> list[str | None]:
    rows = await pool.fetch(
        "SELECT channel FROM settlement.attempt WHERE payout_id = $1 ORDER BY number", payout.id
    )
    return [row["channel"] for row in rows]


async def ask_until(
    pool: Pool, channels: settlement.Channels, payout: Payout, done: Callable[[Payout], bool]
) -> Payout:
    for minute in range(100):
        await settlement.query_unknown(pool, channels, now=clock.now() + timedelta(seconds=2 * minute))
        payout = await reread(pool, payout)
        if done(payout):
            return payout
        await asyncio.sleep(0.03)
    raise AssertionError(f"still {payout.state}")


def ended(payout: Payout) -> bool:
    return payout.state in {State.SUCCEEDED, State.FAILED, State.EXPIRED, State.RETURNED}


def paid_times(two: tuple[Sandbox, Sandbox], payout: Payout) -> int:
    numbers = [settlement.out_no_of(payout.id, number) for number in range(1, 10)]
    moved = [bank.call("/control/moved?by=out_no") for bank in two]
    return sum(each.get(number, {"count": 0})["count"] for each in moved for number in numbers)


async def held_at(pool: Pool, channel: str) -> int:
    async with transaction(pool) as db:
        code = postings.custody(channel)
        found = await ledger.balances(db, [code])
        return found[code].balance_fen if code in found else 0


async def stands(pool: Pool, name: str, now: datetime) -> Standing:
    async with transaction(pool) as db:
        (found,) = [each.channel for each in await list_channels(db, now=now) if each.channel.name == name]
    return standing(found, now)


async def stop(pool: Pool, *names: str) -> None:
    async with transaction(pool) as db:
        await settlement.stop_channels(db, names, FINANCE, note="bills differ", now=clock.now())


async def start(pool: Pool, *names: str) -> None:
    async with transaction(pool) as db:
        await settlement.start_channels(db, names, FINANCE, note="bills agree", now=clock.now())


async def test_the_cheaper_channel_pays_and_its_custody_and_cost_are_booked(pool, keyring, two, channels):
    await add_second(pool, cost_fen=3, cost_bps=10)
    await pool.execute("UPDATE settlement.channel SET cost_fen = 100 WHERE name = $1", FIRST)
    (payout,) = await going(pool, keyring)
    await send(pool, channels, keyring, payout)
    done = await ask_until(pool, channels, payout, ended)
    assert (done.state, await sent_through(pool, payout)) == (State.SUCCEEDED, [SECOND])
    assert paid_times(two, payout) == 1
    assert (await held_at(pool, SECOND), await held_at(pool, FIRST)) == (92_00, 0)
    async with transaction(pool) as db:
        cost = (await ledger.balances(db, [postings.CHANNEL_COST]))[postings.CHANNEL_COST]
        seen = {each.channel.name: each for each in await list_channels(db, now=clock.now())}
    assert cost.balance_fen == -(3 + 10), "10 bps of 9,200 are 9.2, and a part of a fen counts as one"
    assert (seen[SECOND].channel.used_fen, seen[SECOND].silent) == (92_00, 0)
    assert seen[SECOND].answered >= 1


async def test_only_after_a_definite_failure_the_next_transfer_goes_elsewhere(pool, keyring, two, channels):
    await add_second(pool)
    (payout,) = await going(pool, keyring)
    two[0].fault("fail", next_n=1, reason="account_unusable")
    await send(pool, channels, keyring, payout)
    failed = await ask_until(pool, channels, payout, ended)
    async with transaction(pool) as db:
        (again,) = await settlement.retry_payouts(db, [failed.id], FINANCE, now=clock.now())
    await send(pool, channels, keyring, again)
    done = await ask_until(pool, channels, again, ended)
    assert (done.state, await sent_through(pool, payout)) == (State.SUCCEEDED, [FIRST, SECOND])
    assert paid_times(two, payout) == 1
    async with transaction(pool) as db:
        assert await books(db, payout.seller_id) == (0, 0)


async def test_an_unknown_outcome_is_asked_for_where_it_was_sent_though_the_channel_is_stopped(
    pool, keyring, two, channels
):
    await add_second(pool)
    (payout,) = await going(pool, keyring)
    two[0].fault("lost_reply", next_n=1, delay_s=1)
    await send(pool, channels, keyring, payout)
    assert (await reread(pool, payout)).state is State.UNKNOWN
    await stop(pool, FIRST)
    await send(pool, channels, keyring, payout)
    done = await ask_until(pool, channels, payout, ended)
    assert (done.state, await sent_through(pool, payout)) == (State.SUCCEEDED, [FIRST])
    assert paid_times(two, payout) == 1


async def test_a_number_its_channel_never_heard_of_waits_for_that_channel(pool, keyring, two, channels):
    await add_second(pool)
    (payout,) = await going(pool, keyring)
    two[0].fault("error_500_before", next_n=1)
    await send(pool, channels, keyring, payout)
    await stop(pool, FIRST)
    back = await ask_until(pool, channels, payout, lambda found: found.state is State.SUBMITTED)
    await send(pool, channels, keyring, back)
    assert (await reread(pool, payout)).waiting == settlement.Wait.CHANNELS_CLOSED
    assert paid_times(two, payout) == 0
    await start(pool, FIRST)
    await send(pool, channels, keyring, back)
    done = await ask_until(pool, channels, back, ended)
    assert (done.state, await sent_through(pool, payout)) == (State.SUCCEEDED, [FIRST])
    assert paid_times(two, payout) == 1


async def test_no_writer_can_move_a_transfer_to_another_channel(pool, keyring, channels):
    await add_second(pool)
    (payout,) = await going(pool, keyring)
    await send(pool, channels, keyring, payout)
    with pytest.raises(Exception, match="belongs to channel institution"):
        await pool.execute("UPDATE settlement.attempt SET channel = $1", SECOND)


async def test_while_no_channel_is_open_payouts_wait_say_so_and_go_by_themselves(
    pool, keyring, two, channels
):
    payouts = await going(pool, keyring, 3)
    await stop(pool, FIRST)
    for _ in range(2):
        await send(pool, channels, keyring, *payouts)
    for payout in payouts:
        waiting = await reread(pool, payout)
        assert (waiting.state, waiting.waiting) == (State.SUBMITTED, settlement.Wait.CHANNELS_CLOSED)
        assert paid_times(two, payout) == 0
    async with transaction(pool) as db:
        steps = [step.reason for step in await settlement.timeline(db, payouts[0].id)]
        assert steps == [None, None, "channels_closed"], "it is said once, however often it is tried"
        assert await settlement.wake_waiting(db, now=clock.now()) == 0, "its time has not come"
    await start(pool, FIRST)
    async with transaction(pool) as db:
        assert await settlement.wake_waiting(db, now=clock.now()) == 3
    await send(pool, channels, keyring, *payouts)
    for payout in payouts:
        done = await ask_until(pool, channels, payout, ended)
        assert (done.state, done.waiting, paid_times(two, payout)) == (State.SUCCEEDED, None, 1)


async def test_a_silent_channel_is_rested_tried_with_one_and_comes_back(pool, keyring, two, channels):
    payouts = await going(pool, keyring, 8)
    two[0].fault("error_500_before", next_n=6)
    await send(pool, channels, keyring, *payouts[:6])
    assert await stands(pool, FIRST, clock.now()) is Standing.RESTING
    await send(pool, channels, keyring, *payouts[6:])
    assert [await sent_through(pool, payout) for payout in payouts[6:]] == [[None], [None]]
    later = clock.now() + timedelta(seconds=6)
    assert await stands(pool, FIRST, later) is Standing.PROBING
    await send(pool, channels, keyring, *payouts[6:], at=later)
    tried = [await sent_through(pool, payout) for payout in payouts[6:]]
    assert sorted(tried, key=str) == [["institution"], [None]], "one tries it, the other waits"
    assert await stands(pool, FIRST, later) is Standing.RUNNING
    async with transaction(pool) as db:
        assert await settlement.wake_waiting(db, now=later) == 1


async def test_a_channel_that_stays_silent_is_rested_longer(pool, keyring, two, channels):
    payouts = await going(pool, keyring, 6)
    two[0].fault("error_500_before", next_n=6)
    await send(pool, channels, keyring, *payouts[:5])
    later = clock.now() + timedelta(seconds=6)
    await send(pool, channels, keyring, payouts[5], at=later)
    assert await stands(pool, FIRST, later + timedelta(seconds=8)) is Standing.RESTING
    assert await stands(pool, FIRST, later + timedelta(seconds=11)) is Standing.PROBING


async def test_an_answer_between_silences_rests_nobody(pool, keyring, two, channels):
    payouts = await going(pool, keyring, 9)
    for part in (payouts[:4], payouts[5:]):
        two[0].fault("error_500_before", next_n=4)
        await send(pool, channels, keyring, *part)
        await send(pool, channels, keyring, payouts[4])
    assert await stands(pool, FIRST, clock.now()) is Standing.RUNNING


async def test_two_workers_never_pass_the_limit_of_a_channels_day(pool, keyring, two, channels):
    await pool.execute("UPDATE settlement.channel SET day_limit_fen = $1", 3 * 92_00)
    payouts = await going(pool, keyring, 8)
    await asyncio.gather(*(send(pool, channels, keyring, payout) for payout in payouts))
    through = [await sent_through(pool, payout) for payout in payouts]
    assert through.count([FIRST]) == 3
    waiting = [(await reread(pool, payout)).waiting for payout in payouts]
    assert waiting.count(settlement.Wait.CHANNEL_DAY_LIMIT) == 5
    tomorrow = clock.now() + timedelta(days=1)
    async with transaction(pool) as db:
        assert await settlement.wake_waiting(db, now=tomorrow) == 5


async def test_what_no_channel_pays_waits_and_says_so(pool, keyring, channels):
    await pool.execute("UPDATE settlement.channel SET payee_kinds = '{wechat}'")
    (payout,) = await going(pool, keyring)
    await send(pool, channels, keyring, payout)
    assert (await reread(pool, payout)).waiting == settlement.Wait.NO_CHANNEL_PAYS


async def test_what_failed_for_good_waits_for_no_channel_any_more(pool, keyring, channels):
    (payout,) = await going(pool, keyring)
    await stop(pool, FIRST)
    await send(pool, channels, keyring, payout)
    await pool.execute("UPDATE settlement.payout SET payee_id = 'pya_nobody_knows'")
    await send(pool, channels, keyring, payout)
    failed = await reread(pool, payout)
    assert (failed.state, failed.waiting) == (State.FAILED, None)
    async with transaction(pool) as db:
        assert await settlement.wake_waiting(db, now=clock.now() + timedelta(days=1)) == 0


async def test_a_channel_without_a_gateway_in_this_process_is_not_chosen(pool, keyring, channels):
    await add_second(pool, cost_fen=0)
    (payout,) = await going(pool, keyring)
    await send(pool, {FIRST: channels[FIRST]}, keyring, payout)
    assert await sent_through(pool, payout) == [FIRST]


async def test_one_channel_that_breaks_down_keeps_no_answers_of_another(pool, keyring, two, channels):
    await add_second(pool, max_fen=50_00)
    now = clock.now()
    async with transaction(pool) as db:
        large = await opened(db, await owed_orders(db, keyring, 1, now=now), now=now)
        await db.execute("UPDATE settlement.channel SET min_fen = 50_00 WHERE name = $1", FIRST)
        small = await opened(db, await owed_orders(db, keyring, 1, now=now, net_fen=40_00), now=now)
    with pytest.raises(ConnectionResetError):
        await send(pool, {**channels, FIRST: _Breaks()}, keyring, *large, *small)
    assert await sent_through(pool, small[0]) == [SECOND]
    await hurry(pool)
    assert (await ask_until(pool, channels, small[0], ended)).state is State.SUCCEEDED


class _Breaks:
    """A gateway whose process is killed in the call."""

    async def send(self, *_orders, **_given):
        raise ConnectionResetError("killed")


async def test_a_channel_cannot_speak_of_anothers_transfers(pool, keyring, two, channels):
    await add_second(pool)
    (payout,) = await going(pool, keyring)
    await send(pool, channels, keyring, payout)
    lie = TransferReport(out_no=settlement.out_no_of(payout.id, 1), state=TransferState.FAILED)
    before = await reread(pool, payout)
    async with transaction(pool) as db:
        await settlement.record_reports(db, [lie], channel=SECOND, now=clock.now())
    assert await reread(pool, payout) == before


async def test_the_switch_is_in_the_audit_trail_and_moving_it_twice_changes_nothing(pool):
    for _ in range(2):
        await stop(pool, FIRST)
    await start(pool, FIRST)
    async with transaction(pool) as db:
        trail = await staff.audit_trail(db, limit=10)
        with pytest.raises(NotFound):
            await settlement.stop_channels(db, ["nowhere"], FINANCE, note="a note", now=clock.now())
    said = [(entry.action, entry.subject, entry.reason) for entry in trail]
    assert sorted(said) == [
        ("channel.start", FIRST, "bills agree"),
        ("channel.stop", FIRST, "bills differ"),
    ]
