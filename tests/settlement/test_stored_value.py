"""Stored value has a limit for each holder, and its holder sees every movement."""

import pytest
from factories.edge import customer, open_edge
from factories.payouts import secured, sellers

from quanhui import compliance, ledger, settlement
from quanhui.base.db import Db, Pool, transaction
from quanhui.ledger import BoughtLine, postings
from quanhui.settlement import Hold, State
from quanhui.settlement.stored_value.routes import handlers


async def top_up(db: Db, holder_id: str, amount_fen: int, *, now) -> None:
    owed = postings.buyback_accepted(
        f"ord_{amount_fen}",
        seller_id=holder_id,
        lines=[BoughtLine("p1", amount_fen)],
        fee_fen=0,
        net_fen=amount_fen,
    )
    moved = postings.stored_value_topup(f"pot_{amount_fen}", customer_id=holder_id, amount_fen=amount_fen)
    await ledger.post(db, [*owed, *moved], now=now)


@pytest.mark.parametrize(("verified", "limit_fen"), [(True, 5_000_00), (False, 1_000_00)])
async def test_a_verified_name_may_hold_more_than_a_bearer(db: Db, keyring, now, verified, limit_fen):
    ((holder_id, _),) = await sellers(db, keyring, 1, now=now, verified=verified)
    assert await compliance.stored_value_room(db, [holder_id], now=now) == {holder_id: limit_fen}
    await top_up(db, holder_id, limit_fen - 1, now=now)
    assert await compliance.stored_value_room(db, [holder_id], now=now) == {holder_id: 1}


async def test_a_top_up_beyond_the_limit_is_held_with_its_reason_and_what_fits_goes_through(
    db: Db, keyring, now
):
    ((seller_id, _),) = await sellers(db, keyring, 1, now=now)
    await top_up(db, seller_id, 4_850_00, now=now)
    jobs = [
        await secured(db, keyring, seller_id=seller_id, payee_id=None, now=now, method="stored_value")
        for _ in range(2)
    ]
    await settlement.open_payouts(db, jobs, now=now)
    payouts = await settlement.find_payouts(
        db, [row["id"] for row in await db.fetch("SELECT id FROM settlement.payout")]
    )
    found = sorted((payout.state, payout.hold_reason) for payout in payouts.values())
    assert found == [(State.HELD, Hold.STORED_VALUE_LIMIT), (State.SUCCEEDED, None)]
    code = postings.stored_value(seller_id)
    assert (await ledger.balances(db, [code]))[code].balance_fen == 4_850_00 + 92_00


async def test_a_holder_sees_their_own_movements_alone(pool: Pool, now):
    me, another = customer("cus_me", "settlement.read"), customer("cus_other", "settlement.read")
    async with transaction(pool) as db:
        for amount_fen in (10_00, 20_00, 30_00):
            await top_up(db, "cus_me", amount_fen, now=now)
    async with open_edge(handlers, pool, now=now) as edge:
        first = (await edge.get(me, "/stored-value/statement", limit=2)).json()
        assert [entry["amount_fen"] for entry in first["items"]] == [30_00, 20_00]
        rest = await edge.get(me, "/stored-value/statement", cursor=first["next_cursor"])
        assert [entry["amount_fen"] for entry in rest.json()["items"]] == [10_00]
        assert (await edge.get(another, "/stored-value/statement")).json()["items"] == []
