import asyncio
from datetime import timedelta

import asyncpg
import pytest
from factories.vouchers import a_voucher, enrol_one

from quanhui import vouchers
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.keyring import CannotOpen, Keyring, Sealed
from quanhui.vouchers import Claim, Custody, Integrity, NotClaimable, Spend, Value


async def one(db: Db, voucher_id: str) -> vouchers.Voucher:
    return (await vouchers.find_vouchers(db, [voucher_id]))[voucher_id]


async def claimed(db: Db, keyring: Keyring, now, *, code="QH0001", order_id="ord_1") -> vouchers.NewVoucher:
    voucher = await enrol_one(db, keyring, code=code, now=now)
    claim = Claim(voucher.id, voucher.fingerprint, order_id, "cus_1")
    await vouchers.claim(db, [claim], now=now)
    return voucher


async def sold(db: Db, keyring: Keyring, now) -> vouchers.NewVoucher:
    voucher = await claimed(db, keyring, now)
    await vouchers.take_title(db, {voucher.id: "ord_1"})
    await vouchers.reserve(db, [voucher.id])
    await vouchers.assign(db, [voucher.id], holder_id="cus_buyer", now=now)
    return voucher


async def test_sixty_four_sellers_of_one_code_make_one_claim_and_polite_refusals(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        voucher = await enrol_one(db, keyring, code="QH0001", now=now)

    async def sell(number: int) -> str:
        async with transaction(pool) as db:
            claim = Claim(voucher.id, voucher.fingerprint, f"ord_{number}", f"cus_{number}")
            await vouchers.claim(db, [claim], now=now)
        return "claimed"

    outcomes = await asyncio.gather(*(sell(i) for i in range(64)), return_exceptions=True)
    assert outcomes.count("claimed") == 1
    assert sum(isinstance(outcome, NotClaimable) for outcome in outcomes) == 63


async def test_a_set_is_claimed_whole_or_not_at_all(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        taken = await claimed(db, keyring, now)
        free = await enrol_one(db, keyring, code="QH0002", now=now)
    with pytest.raises(NotClaimable) as refusal:
        async with transaction(pool) as db:
            both = [
                Claim(taken.id, taken.fingerprint, "ord_2", "cus_2"),
                Claim(free.id, free.fingerprint, "ord_2", "cus_2"),
            ]
            await vouchers.claim(db, both, now=now)
    assert refusal.value.facts == {"vouchers": [taken.id]}
    async with transaction(pool) as db:
        assert (await one(db, free.id)).custody is Custody.SELLER_HELD


async def test_a_registered_holder_alone_can_offer_their_voucher(db: Db, keyring, now):
    voucher = await enrol_one(db, keyring, code="QH0001", now=now, holder_id="cus_owner")
    claim = Claim(voucher.id, voucher.fingerprint, "ord_1", "cus_thief")
    with pytest.raises(NotClaimable):
        await vouchers.claim(db, [claim], now=now)
    owners = Claim(voucher.id, voucher.fingerprint, "ord_2", "cus_owner")
    await vouchers.claim(db, [owners], now=now)


@pytest.mark.parametrize("days", [0, -1])
async def test_an_expired_voucher_is_never_claimed(db: Db, keyring, now, days):
    voucher = await enrol_one(db, keyring, code="QH0001", now=now, days=days)
    with pytest.raises(NotClaimable):
        claim = Claim(voucher.id, voucher.fingerprint, "ord_1", "cus_1")
        await vouchers.claim(db, [claim], now=now)


async def test_a_frozen_voucher_is_neither_claimed_nor_reserved_nor_spent(db: Db, keyring, now):
    voucher = await claimed(db, keyring, now)
    await vouchers.take_title(db, {voucher.id: "ord_1"})
    await vouchers.set_integrity(db, [voucher.id], Integrity.FROZEN)
    with pytest.raises(vouchers.CustodyChanged):
        await vouchers.reserve(db, [voucher.id])
    held = await enrol_one(db, keyring, code="QH0002", now=now)
    await vouchers.set_integrity(db, [held.id], Integrity.FROZEN)
    with pytest.raises(vouchers.CannotSpend):
        await vouchers.authorise(db, [Spend(held.id, 1)], now=now)
    with pytest.raises(NotClaimable):
        claim = Claim(held.id, held.fingerprint, "ord_2", "cus_1")
        await vouchers.claim(db, [claim], now=now)


async def test_after_rekeying_the_old_code_is_known_but_dead(db: Db, keyring, now):
    voucher = await claimed(db, keyring, now)
    await vouchers.take_title(db, {voucher.id: "ord_1"})
    fresh = vouchers.seal_code(keyring, voucher_id=voucher.id, issuer_id="iss_own", code="QH9999")
    await vouchers.rekey(db, [fresh], now=now)
    found = await vouchers.find_by_fingerprints(db, [voucher.fingerprint, fresh.fingerprint])
    assert not found[voucher.fingerprint].live
    assert found[fresh.fingerprint].live
    revealed = await vouchers.reveal(db, keyring, [voucher.id], actor_id="cus_2", reason="bought", now=now)
    assert revealed == {voucher.id: "QH9999"}
    assert await db.fetchval("SELECT count(*) FROM vouchers.reveal WHERE actor_id = 'cus_2'") == 1


async def test_a_released_voucher_can_be_offered_again(db: Db, keyring, now):
    voucher = await claimed(db, keyring, now)
    await vouchers.release(db, [voucher.id], order_id="ord_1", reason="issuer_refused", now=now)
    claim = Claim(voucher.id, voucher.fingerprint, "ord_2", "cus_1")
    await vouchers.claim(db, [claim], now=now)


async def test_a_buyer_may_sell_again_what_they_bought(db: Db, keyring, now):
    voucher = await sold(db, keyring, now)
    claim = Claim(voucher.id, voucher.fingerprint, "ord_2", "cus_1")
    with pytest.raises(NotClaimable):
        await vouchers.claim(db, [claim], now=now)
    buyers = Claim(voucher.id, voucher.fingerprint, "ord_3", "cus_buyer")
    await vouchers.claim(db, [buyers], now=now)


async def test_stock_cannot_be_spent_and_a_holder_cannot_overspend(db: Db, keyring, now):
    stock = await claimed(db, keyring, now)
    await vouchers.take_title(db, {stock.id: "ord_1"})
    with pytest.raises(vouchers.CannotSpend):
        await vouchers.authorise(db, [Spend(stock.id, 1)], now=now)
    held = await enrol_one(db, keyring, code="QH0002", now=now, face_fen=100)
    await vouchers.authorise(db, [Spend(held.id, 60)], now=now)
    with pytest.raises(vouchers.CannotSpend):
        await vouchers.authorise(db, [Spend(held.id, 41)], now=now)


async def test_twenty_tills_at_once_never_overspend_one_voucher(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        voucher = await enrol_one(db, keyring, code="QH0001", now=now, face_fen=100)

    async def spend() -> str:
        async with transaction(pool) as db:
            await vouchers.authorise(db, [Spend(voucher.id, 10)], now=now)
            await vouchers.capture(db, [Spend(voucher.id, 10)], [Spend(voucher.id, 10)])
        return "spent"

    outcomes = await asyncio.gather(*(spend() for _ in range(20)), return_exceptions=True)
    assert outcomes.count("spent") == 10
    async with transaction(pool) as db:
        after = await one(db, voucher.id)
    assert (after.captured_fen, after.available_fen, after.value) == (100, 0, Value.EXHAUSTED)


async def test_a_reversal_restores_at_most_what_was_captured(db: Db, keyring, now):
    voucher = await enrol_one(db, keyring, code="QH0001", now=now, face_fen=100)
    await vouchers.authorise(db, [Spend(voucher.id, 80)], now=now)
    await vouchers.capture(db, [Spend(voucher.id, 80)], [Spend(voucher.id, 30)])
    assert (await one(db, voucher.id)).available_fen == 70
    with pytest.raises(vouchers.CustodyChanged):
        await vouchers.restore(db, [Spend(voucher.id, 31)])
    await vouchers.restore(db, [Spend(voucher.id, 30)])
    after = await one(db, voucher.id)
    assert (after.captured_fen, after.value) == (0, Value.ACTIVE)


async def test_the_database_itself_refuses_a_move_that_is_not_in_the_table(db: Db, keyring, now):
    voucher = await enrol_one(db, keyring, code="QH0001", now=now)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await db.execute("UPDATE vouchers.voucher SET custody = 'assigned' WHERE id = $1", voucher.id)


async def test_two_vouchers_cannot_be_registered_under_one_code(db: Db, keyring, now):
    first = a_voucher(keyring, code="QH0001", now=now, own_issue=False)
    second = a_voucher(keyring, code="QH0001", now=now, own_issue=False)
    assert await vouchers.register(db, [first], now=now) == {first.id}
    assert await vouchers.register(db, [second], now=now) == set()


async def test_rotation_seals_every_code_under_the_newest_key(db: Db, keyring, now):
    voucher = await enrol_one(db, keyring, code="QH0001", now=now)
    rotated = Keyring({1: bytes(range(32)), 2: b"2" * 32}, bytes(32))
    assert await vouchers.rotate_keys(db, rotated) == 1
    assert await vouchers.rotate_keys(db, rotated) == 0
    newest_only = Keyring({2: b"2" * 32}, bytes(32))
    revealed = await vouchers.reveal(db, newest_only, [voucher.id], actor_id="x", reason="test", now=now)
    assert revealed == {voucher.id: "QH0001"}


async def test_vouchers_expire_at_the_end_of_their_last_day(db: Db, keyring, now):
    voucher = await enrol_one(db, keyring, code="QH0001", now=now, days=1)
    assert await vouchers.expire(db, now=now + timedelta(days=1, microseconds=-1)) == 0
    assert await vouchers.expire(db, now=now + timedelta(days=1)) == 1
    assert (await one(db, voucher.id)).value is Value.EXPIRED


def test_a_sealed_code_copied_to_another_voucher_does_not_open(keyring):
    sealed = vouchers.seal_code(keyring, voucher_id="vch_1", issuer_id="iss_1", code="SECRET")
    with pytest.raises(CannotOpen):
        keyring.open(Sealed(sealed.key_version, sealed.box), context="vch_2")
    assert b"SECRET" not in sealed.box
