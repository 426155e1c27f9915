"""What the sample is made of, before any of it is loaded."""

import math
from collections import Counter
from itertools import islice

import msgspec
import pytest

from quanhui.base.check_digits import is_credit_code, is_id_number
from quanhui.base.ids import is_id
from quanhui.catalogue import (
    OWN_REGISTRY,
    CheckAlgorithm,
    LegalClass,
    Recogniser,
    check_ok,
    normalise,
)
from quanhui.places import RegionLevel
from quanhui.sample import outside_vouchers
from quanhui.sample.divisions import divisions, full_name
from quanhui.sample.offers import make_offers
from quanhui.sample.outside import ALWAYS_GOOD, write_outside_vouchers
from quanhui.sample.people import FIRST_PHONE, make_companies, make_customers
from quanhui.sample.shops import make_shops
from quanhui.sample.vouchers import own_vouchers
from quanhui.sandboxes.issuer import SeedVoucher

SEED = 7
STORES = 3000

# Where Sichuan and its neighbours lie, roughly: west, south, east, north.
BOUNDS = {
    "50": (105.2, 28.1, 110.3, 32.3),
    "51": (97.3, 26.0, 108.6, 34.4),
    "52": (103.6, 24.6, 109.6, 29.3),
    "53": (97.5, 21.1, 106.2, 29.3),
    "61": (105.4, 31.7, 111.3, 39.6),
    "62": (92.3, 32.5, 108.8, 42.9),
}


@pytest.fixture(scope="module")
def shops():
    return make_shops(SEED, STORES)


def test_the_divisions_are_those_of_the_standard():
    counted = Counter(division.region.level for division in divisions().values())
    assert counted[RegionLevel.PROVINCE] == 31
    assert counted[RegionLevel.CITY] == 342
    assert counted[RegionLevel.DISTRICT] > 2900
    assert full_name("510107") == "四川省成都市武侯区"
    assert full_name("500103") == "重庆市渝中区"


def test_every_division_stands_after_its_parent():
    seen = set()
    for code, division in divisions().items():
        assert division.region.parent_code is None or division.region.parent_code in seen
        seen.add(code)


def test_every_centre_lies_in_china_and_near_its_city():
    for code, division in divisions().items():
        if division.centre is None:
            continue
        lon, lat = division.centre
        assert 73 < lon < 136, division
        assert 3 < lat < 54, division
        city = divisions()[code[:4] + "00"].centre
        if city:
            assert kilometres(division.centre, city) < 380, division


def kilometres(a: tuple[float, float], b: tuple[float, float]) -> float:
    east = math.radians(b[0] - a[0]) * math.cos(math.radians((a[1] + b[1]) / 2))
    return 6371 * math.hypot(east, math.radians(b[1] - a[1]))


def test_stores_stand_in_their_own_province_and_mostly_in_sichuan(shops):
    for store in shops.stores:
        west, south, east, north = BOUNDS[store.region_code[:2]]
        assert west < store.lon < east, store
        assert south < store.lat < north, store
        assert store.address.startswith(full_name(store.region_code))
    by_province = Counter(store.region_code[:2] for store in shops.stores)
    assert by_province["51"] > 0.65 * STORES
    assert set(by_province) == set(BOUNDS)


def test_no_two_stores_share_a_name_and_every_desk_stands_in_a_store_of_the_group(shops):
    assert len({store.zh for store in shops.stores}) == STORES
    stores = {store.id: store for store in shops.stores}
    assert len(shops.desks) > STORES / 4
    assert {stores[desk.store_id].merchant_id for desk in shops.desks} == {shops.merchants[0].id}


def test_the_offers_cover_every_category_legal_class_and_check():
    offers = make_offers(SEED)
    assert len(offers.products) >= 24
    assert len(offers.issuers) == 12
    assert [issuer.connector for issuer in offers.issuers].count(OWN_REGISTRY) == 1
    assert {product.legal_class for product in offers.products} == set(LegalClass)
    assert {product.code_format.check for product in offers.products} == set(CheckAlgorithm)
    assert len({product.category for product in offers.products}) == 6
    assert {product.fee_bps for product in offers.products} >= {800, 1200}


def test_every_sample_code_is_recognised_as_its_own_product_alone(now):
    recogniser = Recogniser((p.id, p.code_format) for p in make_offers(SEED).products)
    for voucher in own_vouchers(SEED, 300, now=now):
        assert [c.product_id for c in recogniser.candidates(voucher.code)] == [voucher.product.id]
    for outside in outside_vouchers(SEED, 10, now=now):
        assert [c.product_id for c in recogniser.candidates(outside.code)] == [outside.product]


def test_own_vouchers_have_codes_of_their_own_faces_on_sale_and_are_still_valid(now):
    vouchers = list(own_vouchers(SEED, 3000, now=now))
    assert len({voucher.code for voucher in vouchers}) == 3000
    for voucher in vouchers:
        assert voucher.face_fen in voucher.product.face_values_fen
        assert voucher.expires_at > now
        assert normalise(voucher.code, voucher.product.code_format) == voucher.code
        assert check_ok(voucher.code, voucher.product.code_format)
    assert len({voucher.expires_at for voucher in vouchers}) > 300


def test_outside_vouchers_hold_what_an_issuer_may_answer(now):
    lines = list(outside_vouchers(SEED, 100, now=now))
    assert len({(line.issuer, line.code) for line in lines}) == len(lines)
    assert all(0 <= line.balance_fen <= line.face_fen for line in lines)
    assert any(line.balance_fen == 0 for line in lines)
    assert any(0 < line.balance_fen < line.face_fen for line in lines)
    assert any(line.expires_at < now for line in lines)
    assert not any(0 < line.balance_fen < line.face_fen and line.whole_value_only for line in lines)
    for start in range(0, len(lines), 100):
        assert all(
            line.balance_fen == line.face_fen and line.expires_at > now
            for line in lines[start : start + ALWAYS_GOOD]
        )


def test_the_seed_file_is_what_the_sandbox_reads(tmp_path, now):
    file = tmp_path / "deep" / "outside.jsonl"
    count, firsts = write_outside_vouchers(file, SEED, 5, now=now)
    read = [msgspec.json.decode(line, type=SeedVoucher) for line in file.read_bytes().splitlines()]
    assert len(read) == count == 5 * len(firsts)
    wrote = list(outside_vouchers(SEED, 5, now=now))
    assert [(r.code, r.balance_fen, r.expires_at) for r in read] == [
        (w.code, w.balance_fen, w.expires_at) for w in wrote
    ]


def test_people_have_well_formed_numbers_that_belong_to_nobody(now):
    people = [row.person for row in make_customers(SEED, 20_000, now=now)]
    assert [people[0].phone, people[-1].phone] == [str(FIRST_PHONE), str(FIRST_PHONE + 19_999)]
    numbers = [person.id_number for person in people if person.id_number]
    assert len(set(numbers)) == len(numbers) > 15_000
    assert all(is_id_number(number) and number[14:17] == "000" for number in numbers)
    assert len({number[6:14] for number in numbers}) > 10_000
    assert all((person.real_name is None) == (person.id_number is None) for person in people)


def test_companies_have_credit_codes_that_pass():
    companies = make_companies(SEED)
    assert len({company.credit_code for company in companies}) == len(companies)
    assert all(is_credit_code(company.credit_code) for company in companies)


def test_the_same_seed_gives_the_same_sample_and_another_seed_another(shops, now):
    assert make_shops(SEED, STORES) == shops
    assert make_shops(SEED + 1, 10).stores != shops.stores[:10]
    assert make_offers(SEED).products == make_offers(SEED).products
    codes = [voucher.code for voucher in own_vouchers(SEED, 50, now=now)]
    assert codes == [voucher.code for voucher in own_vouchers(SEED, 50, now=now)]
    assert codes != [voucher.code for voucher in own_vouchers(SEED + 1, 50, now=now)]
    first = list(islice(make_customers(SEED, 10, now=now), 10))
    assert first == list(islice(make_customers(SEED, 1000, now=now), 10))


def test_sample_ids_are_real_ids_and_sort_in_the_order_made(shops):
    ids = [store.id for store in shops.stores]
    assert ids == sorted(ids)
    assert all(is_id(store_id, "sto") for store_id in ids)


def test_sample_vouchers_never_print_their_codes(now):
    (own,) = own_vouchers(SEED, 1, now=now)
    outside = next(outside_vouchers(SEED, 1, now=now))
    assert own.code not in repr(own)
    assert outside.code not in repr(outside)
