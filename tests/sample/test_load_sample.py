import msgspec
import pyotp
import pytest

from quanhui.base.db import Pool
from quanhui.catalogue import load_catalogue
from quanhui.ledger import trial_balance
from quanhui.places import stores_near
from quanhui.sample import SampleRefused, SampleSummary, load_sample
from quanhui.sample.people import COMPANIES, SIGN_IN_SAMPLES
from quanhui.vouchers import find_by_fingerprints, fingerprint_of, list_held_by

TIANFU_SQUARE = {"lon": 104.0657, "lat": 30.6574}


@pytest.fixture
async def sample(pool: Pool, keyring, tmp_path, now) -> SampleSummary:
    return await load_sample(
        pool,
        keyring,
        seed=7,
        stores=120,
        customers=60,
        vouchers=400,
        outside_seed_file=tmp_path / "outside.jsonl",
        now=now,
    )


async def test_the_codes_told_to_newcomers_are_in_the_registry_and_free_to_offer(pool: Pool, keyring, sample):
    async with pool.acquire() as db:
        catalogue = await load_catalogue(db)
        assert len(sample.own_codes) >= 10
        for told in sample.own_codes:
            (candidate,) = catalogue.recognise(told.code)
            issuer = catalogue.issuer_of(candidate.product_id)
            fingerprint = fingerprint_of(keyring, issuer_id=issuer.id, code=candidate.code)
            found = (await find_by_fingerprints(db, [fingerprint]))[fingerprint]
            assert found.live
            assert found.voucher.face_fen == told.face_fen
            assert found.voucher.may_be_offered_by("cus_anyone")
        for told in sample.outside_codes:
            (candidate,) = catalogue.recognise(told.code)
            assert not catalogue.issuer_of(candidate.product_id).is_own


async def test_everything_asked_for_is_there(pool: Pool, sample, tmp_path):
    counts = await pool.fetchrow(
        "SELECT (SELECT count(*) FROM places.store), (SELECT count(*) FROM customers.customer),"
        " (SELECT count(*) FROM vouchers.voucher), (SELECT count(*) FROM catalogue.product)"
    )
    assert tuple(counts) == (120, 60, 400, sample.products)
    assert len((tmp_path / "outside.jsonl").read_bytes().splitlines()) == sample.outside_vouchers
    async with pool.acquire() as db:
        assert await stores_near(db, **TIANFU_SQUARE, radius_m=10_000, limit=5)


async def test_registered_cards_have_a_verified_holder(pool: Pool, sample):
    rows = await pool.fetch(
        "SELECT v.holder_id, c.identity_level FROM vouchers.voucher v"
        " JOIN catalogue.product p ON p.id = v.product_id"
        " LEFT JOIN customers.customer c ON c.id = v.holder_id"
        " WHERE p.legal_class = 'single_purpose_registered'"
    )
    assert rows
    assert {row["identity_level"] for row in rows} == {"verified"}
    async with pool.acquire() as db:
        assert await list_held_by(db, rows[0]["holder_id"], before=None, limit=9)


async def test_the_institution_holds_funds_and_the_books_balance(pool: Pool, sample):
    async with pool.acquire() as db:
        books = await trial_balance(db)
    assert books.total_fen == 0
    custody = next(line for line in books.lines if line.prefix == "custody")
    assert abs(custody.balance_fen) == sample.institution_funds_fen == 10_000_000_000


async def test_one_can_sign_in_with_what_is_told(sample):
    assert {operator.role for operator in sample.operators} == {
        "administrator", "operations", "risk_officer", "finance", "compliance", "auditor",
        "desk_clerk", "store_manager", "merchant_operator",
    }  # fmt: skip
    for operator in sample.operators:
        assert pyotp.TOTP(operator.totp_secret).now().isdecimal()
        assert (operator.store is not None) == (operator.role in {"desk_clerk", "store_manager"})
    assert len(sample.sign_in_customers) == SIGN_IN_SAMPLES
    assert all(customer.enterprise for customer in sample.sign_in_customers[: len(COMPANIES)])
    assert msgspec.json.encode(sample)


async def test_a_second_sample_is_refused_and_changes_nothing(pool: Pool, keyring, sample, tmp_path, now):
    with pytest.raises(SampleRefused):
        await load_sample(
            pool,
            keyring,
            seed=8,
            stores=1,
            customers=1,
            vouchers=1,
            outside_seed_file=tmp_path / "other.jsonl",
            now=now,
        )
    assert await pool.fetchval("SELECT count(*) FROM places.store") == 120
    assert not (tmp_path / "other.jsonl").exists()


async def test_the_smallest_sample_loads(pool: Pool, keyring, tmp_path, now):
    summary = await load_sample(
        pool,
        keyring,
        seed=1,
        stores=1,
        customers=1,
        vouchers=1,
        outside_seed_file=tmp_path / "outside.jsonl",
        now=now,
    )
    assert (summary.stores, len(summary.sign_in_customers)) == (1, 1)
