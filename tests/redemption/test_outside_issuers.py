"""Vouchers of an outside issuer, against its sandbox: replies get lost, and nothing is drawn twice."""

import pytest
from factories.tills import balance, issue, open_trade, spend
from fakes.outside import http_client, start_sandbox

from quanhui import redemption
from quanhui.base import clock, outbox
from quanhui.base.db import Pool, transaction
from quanhui.base.http import NoAnswer
from quanhui.base.outbox import Job
from quanhui.catalogue import Connectors
from quanhui.catalogue.gateway import SandboxIssuerConnector
from quanhui.redemption import ReversalState, State, tasks


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    party = start_sandbox("issuer", tmp_path_factory.mktemp("issuer"))
    yield party
    party.stop()


@pytest.fixture
async def connectors(sandbox):
    sandbox.behave()
    async with http_client() as http:
        yield Connectors(
            lambda issuer_id: SandboxIssuerConnector(
                http, base_url=sandbox.url, issuer=issuer_id, secret=sandbox.secret, timeout_s=0.5
            )
        )


@pytest.fixture
async def trade(pool: Pool):
    async with transaction(pool) as db:
        topics = [redemption.OUTCOME_UNKNOWN, redemption.REVERSAL_WANTED]
        await outbox.set_routes(db, [(topic, topic) for topic in topics])
        return await open_trade(db, now=clock.now())


async def begun(pool: Pool, keyring, trade, sandbox, *, amount_fen: int = 40_00, at_issuer_fen: int = 100_00):
    """An amount set aside here, and the voucher in the issuer's books."""
    now = clock.now()
    async with transaction(pool) as db:
        code, voucher = await issue(db, keyring, trade.foreign, own_issue=False, now=now)
        waiting = await spend(db, keyring, trade, code, amount_fen, now=now)
    seed = {
        "issuer": trade.foreign.issuer_id,
        "prefix": "KD",
        "code": code,
        "face_fen": 100_00,
        "balance_fen": at_issuer_fen,
        "expires_at": voucher.expires_at.isoformat(),
    }
    sandbox.call("/control/vouchers", [seed])
    return code, voucher, waiting


def drawn(sandbox, code: str) -> int:
    (row,) = sandbox.call("/control/books", {"codes": [code]})
    return row["balance_fen"]


async def ask(pool: Pool, keyring, connectors, waiting) -> None:
    await tasks.ask_issuers(pool, keyring, connectors, [waiting.id], now=clock.now())


async def now_is(pool: Pool, waiting, voucher) -> tuple[State, bool, tuple[int, int, int]]:
    async with transaction(pool) as db:
        (found,) = await redemption.find_redemptions(db, [waiting.id])
        return found.state, found.awaits_issuer, await balance(db, voucher.id)


async def jobs_of(pool: Pool, topic: str) -> list[Job]:
    async with transaction(pool) as db:
        batch = await outbox.take(db, topic, limit=10, now=clock.now() + redemption.AUTHORISED_FOR)
        return list(batch.jobs) if batch else []


async def test_the_amount_is_set_aside_here_drawn_there_and_then_captured(
    pool, keyring, trade, sandbox, connectors
):
    code, voucher, waiting = await begun(pool, keyring, trade, sandbox)
    assert await now_is(pool, waiting, voucher) == (State.AUTHORISED, True, (60_00, 40_00, 0))
    await ask(pool, keyring, connectors, waiting)
    await ask(pool, keyring, connectors, waiting)
    assert await now_is(pool, waiting, voucher) == (State.CAPTURED, False, (60_00, 0, 40_00))
    assert drawn(sandbox, code) == 60_00


async def test_a_refusal_of_the_issuer_lets_the_amount_go_and_is_kept_inside(
    pool, keyring, trade, sandbox, connectors
):
    _, voucher, waiting = await begun(pool, keyring, trade, sandbox, at_issuer_fen=39_99)
    await ask(pool, keyring, connectors, waiting)
    assert await now_is(pool, waiting, voucher) == (State.VOIDED, False, (100_00, 0, 0))
    async with transaction(pool) as db:
        assert await db.fetchval("SELECT reason FROM redemption.refusal") == "insufficient_balance"


async def test_a_lost_reply_leaves_it_waiting_until_the_sweep_has_the_issuer_asked_again(
    pool, keyring, trade, sandbox, connectors
):
    code, voucher, waiting = await begun(pool, keyring, trade, sandbox)
    sandbox.fault("lost_reply", next_n=1, delay_s=1)
    with pytest.raises(NoAnswer):
        await ask(pool, keyring, connectors, waiting)
    assert drawn(sandbox, code) == 60_00
    long_after = clock.now() + redemption.AUTHORISED_FOR
    async with transaction(pool) as db:
        soon = waiting.created_at + redemption.ASK_AGAIN_AFTER / 2
        assert await redemption.sweep_authorisations(db, now=soon) == 0
        assert await redemption.sweep_authorisations(db, now=long_after) == 1
        assert await redemption.sweep_authorisations(db, now=long_after) == 0
    assert await now_is(pool, waiting, voucher) == (State.AUTHORISED, True, (60_00, 40_00, 0))
    jobs = await jobs_of(pool, redemption.OUTCOME_UNKNOWN)
    assert [job.subject for job in jobs] == [waiting.id]
    await tasks.ask_unknown(pool, keyring, connectors, jobs, now=clock.now())
    assert await now_is(pool, waiting, voucher) == (State.CAPTURED, False, (60_00, 0, 40_00))
    assert drawn(sandbox, code) == 60_00


async def test_an_outside_voucher_cannot_be_captured_or_voided_past_its_issuer(pool, keyring, trade, sandbox):
    _, _, waiting = await begun(pool, keyring, trade, sandbox)
    for act in (redemption.capture, redemption.void):
        async with transaction(pool) as db:
            with pytest.raises(redemption.NotAuthorised):
                await act(db, waiting.id, now=clock.now())


async def test_a_reversal_is_agreed_by_the_issuer_first_and_made_once(
    pool, keyring, trade, sandbox, connectors
):
    code, voucher, waiting = await begun(pool, keyring, trade, sandbox)
    await ask(pool, keyring, connectors, waiting)

    async def reverse(amount_fen: int):
        async with transaction(pool) as db:
            return await redemption.reverse(
                db, waiting.id, amount_fen=amount_fen, reason="退货", operator_id="opr_1", now=clock.now()
            )

    asked = await reverse(15_00)
    assert asked.state is ReversalState.ASKED
    with pytest.raises(redemption.NotReversible):
        await reverse(1)
    jobs = await jobs_of(pool, redemption.REVERSAL_WANTED)
    sandbox.fault("lost_reply", next_n=1, delay_s=1)
    with pytest.raises(NoAnswer):
        await tasks.reverse_at_issuers(pool, keyring, connectors, jobs, now=clock.now())
    for _ in range(2):
        await tasks.reverse_at_issuers(pool, keyring, connectors, jobs, now=clock.now())
    assert await now_is(pool, waiting, voucher) == (State.CAPTURED, False, (75_00, 0, 25_00))
    assert drawn(sandbox, code) == 75_00
    with pytest.raises(redemption.NotReversible):
        await reverse(1)
