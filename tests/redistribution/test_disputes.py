from datetime import timedelta

import pytest
from factories.market import freeze, heard, listen, reread, reserved, sold, states

from quanhui import ledger, redistribution as market, vouchers
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.redistribution import Decision, PurchaseState
from quanhui.redistribution.rules import GUARANTEE


async def complain(db: Db, purchase, listings, *, now, buyer_id: str = "cus_buyer") -> None:
    ids = [each.id for each in listings]
    await market.open_dispute(
        db, purchase.id, ids, buyer_id=buyer_id, actor_id=buyer_id, reason="余额不足", now=now
    )


async def decide(db: Db, listing, decision: Decision, *, now):
    return await market.decide_dispute(db, listing.id, decision, actor_id="opr_1", note="已核实", now=now)


async def integrity(db: Db, listing) -> str:
    return (await vouchers.find_vouchers(db, [listing.voucher_id]))[listing.voucher_id].integrity


async def test_a_complaint_freezes_the_voucher_until_someone_has_decided(db: Db, keyring, now):
    purchase, listings = await sold(db, keyring, 2, now=now)
    await complain(db, purchase, listings[:1], now=now)
    assert await states(db, listings) == ["disputed", "sold"]
    assert [await integrity(db, each) for each in listings] == ["frozen", "clear"]
    with pytest.raises(market.NotRevealable):
        await market.reveal(db, keyring, purchase.id, buyer_id="cus_buyer", actor_id="cus_buyer", now=now)
    upheld = await decide(db, listings[0], Decision.UPHELD, now=now)
    assert upheld.state == "upheld"
    assert await integrity(db, listings[0]) == "clear"
    with pytest.raises(market.NotInDispute):
        await decide(db, listings[0], Decision.REFUNDED, now=now)
    with pytest.raises(market.NotDisputable):
        await complain(db, purchase, listings[:1], now=now)


async def test_money_goes_back_for_the_listing_complained_about_and_its_voucher_is_void(db: Db, keyring, now):
    await listen(db)
    purchase, listings = await sold(db, keyring, 2, now=now)
    await complain(db, purchase, listings, now=now)
    await decide(db, listings[0], Decision.REFUNDED, now=now)
    assert await integrity(db, listings[0]) == "void"
    (wanted,) = await heard(db, "redistribution.refund_wanted", now=now)
    assert (wanted.payload["amount_fen"], wanted.payload["listing_id"]) == (95_00, listings[0].id)
    await market.confirm_refunds(db, [wanted.subject], institution="institution", now=now)
    assert (await reread(db, purchase)).state is PurchaseState.PAID
    await decide(db, listings[1], Decision.REFUNDED, now=now)
    (wanted,) = await heard(db, "redistribution.refund_wanted", now=now)
    await market.confirm_refunds(db, [wanted.subject], institution="institution", now=now)
    assert (await reread(db, purchase)).state is PurchaseState.REFUNDED
    codes = ["custody:institution", "user_payable:cus_buyer", "resale_revenue", "cost_of_goods"]
    found = await ledger.balances(db, codes)
    assert [found[code].balance_fen for code in codes] == [0, 0, 0, -176_00]


async def test_upholding_a_sale_does_not_release_what_risk_control_froze(db: Db, keyring, now):
    purchase, listings = await sold(db, keyring, now=now)
    await freeze(db, listings)
    await complain(db, purchase, listings, now=now)
    await decide(db, listings[0], Decision.UPHELD, now=now)
    assert await integrity(db, listings[0]) == "frozen"


async def test_a_complaint_comes_within_the_guarantee_and_about_ones_own(db: Db, keyring, now):
    unpaid, held = await reserved(db, keyring, now=now)
    with pytest.raises(market.NotDisputable):
        await complain(db, unpaid, held, now=now)
    purchase, listings = await sold(db, keyring, now=now)
    with pytest.raises(NotFound):
        await complain(db, purchase, listings, now=now, buyer_id="cus_stranger")
    with pytest.raises(NotFound):
        await complain(db, purchase, held, now=now)
    await market.reveal(db, keyring, purchase.id, buyer_id="cus_buyer", actor_id="cus_buyer", now=now)
    with pytest.raises(market.NotDisputable):
        await complain(db, purchase, listings, now=now + GUARANTEE)
    await complain(db, purchase, listings, now=now + GUARANTEE - timedelta(seconds=1))
