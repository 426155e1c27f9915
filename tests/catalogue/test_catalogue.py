import re
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from random import Random

import asyncpg
import msgspec
import pytest

from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.catalogue import (
    NEVER_EXPIRES,
    Capability,
    CatalogueCache,
    Category,
    CategoryExists,
    CheckAlgorithm,
    LegalClass,
    ProductStatus,
    UnknownReference,
    Validity,
    covers,
    enrol,
    load_catalogue,
    make_code,
    set_product_status,
)


async def test_what_is_enrolled_is_loaded_as_it_was(db: Db, now, issuer, brand, product):
    await enrol(db, issuers=[issuer], brands=[brand], products=[product], now=now)
    catalogue = await load_catalogue(db)
    assert catalogue.products[product.id] == product
    assert catalogue.issuer_of(product.id) == issuer
    assert catalogue.issuers[issuer.id].is_own
    assert catalogue.brands[brand.id] == brand
    code = make_code(product.code_format, Random(1))
    assert [c.product_id for c in catalogue.recognise(code)] == [product.id]


async def test_six_categories_are_there_from_the_start_and_another_is_data(db: Db, now):
    first = ["supermarket", "liquor", "restaurant", "travel", "ecommerce_code", "fuel"]
    assert list((await load_catalogue(db)).categories) == first
    await enrol(db, categories=[Category(code="bakery", zh="烘焙", en="Bakery")], now=now)
    assert list((await load_catalogue(db)).categories) == [*first, "bakery"]


async def test_a_category_is_not_added_twice(db: Db, now):
    with pytest.raises(CategoryExists):
        await enrol(db, categories=[Category(code="fuel", zh="加油", en="Fuel")], now=now)


@pytest.mark.parametrize(
    ("field", "value"), [("brand_id", "brd_0"), ("issuer_id", "iss_0"), ("category", "x9")]
)
async def test_a_product_of_something_unknown_is_refused_by_name(
    db: Db, now, issuer, brand, product, field, value
):
    lost = msgspec.structs.replace(product, **{field: value})
    with pytest.raises(UnknownReference) as refused:
        await enrol(db, issuers=[issuer], brands=[brand], products=[lost], now=now)
    assert refused.value.facts == {"field": field}


@pytest.mark.parametrize("fee_bps", [799, 1201])
async def test_a_fee_outside_8_to_12_percent_is_refused_by_the_database(
    db: Db, now, issuer, brand, product, fee_bps
):
    dear = msgspec.structs.replace(product, fee_bps=fee_bps)
    with pytest.raises(asyncpg.CheckViolationError, match="product_fee"):
        await enrol(db, issuers=[issuer], brands=[brand], products=[dear], now=now)


async def test_codes_of_a_suspended_product_are_no_longer_recognised(db: Db, now, issuer, brand, product):
    await enrol(db, issuers=[issuer], brands=[brand], products=[product], now=now)
    assert await set_product_status(db, product.id, ProductStatus.SUSPENDED) == 2
    catalogue = await load_catalogue(db)
    assert catalogue.recognise(make_code(product.code_format, Random(1))) == []
    assert catalogue.products[product.id].version == 2
    with pytest.raises(NotFound):
        await set_product_status(db, "vpr_0", ProductStatus.ACTIVE)


async def test_the_cache_is_at_most_a_second_behind(pool: Pool, now, issuer, brand, product):
    cache = CatalogueCache()
    before = await cache.get(pool, now)
    async with transaction(pool) as db:
        await enrol(db, issuers=[issuer], brands=[brand], products=[product], now=now)
    assert await cache.get(pool, now + timedelta(milliseconds=999)) is before
    after = await cache.get(pool, now + timedelta(seconds=1))
    assert product.id in after.products
    assert await cache.get(pool, now + timedelta(seconds=2)) is after


async def test_a_process_that_changed_the_catalogue_sees_every_change_at_once(
    pool: Pool, now, issuer, brand, product
):
    cache = CatalogueCache()
    seen = [await cache.get(pool, now)]
    changes = [
        lambda db: enrol(db, issuers=[issuer], now=now),
        lambda db: enrol(db, brands=[brand], now=now),
        lambda db: enrol(db, products=[product], now=now),
        lambda db: enrol(db, categories=[Category(code="bakery", zh="烘焙", en="Bakery")], now=now),
        lambda db: set_product_status(db, product.id, ProductStatus.RETIRED),
    ]
    for change in changes:
        async with transaction(pool) as db:
            await change(db)
        cache.look_again()
        seen.append(await cache.get(pool, now))
    assert len(set(map(id, seen))) == len(seen)
    assert seen[-1].products[product.id].status is ProductStatus.RETIRED


async def test_products_are_found_by_every_filter_newest_first(db: Db, now, issuer, brand, product):
    newer = msgspec.structs.replace(
        product, id=new_id("vpr"), category="liquor", zh="锦泉酒卡", legal_class=LegalClass.GOODS_VOUCHER
    )
    await enrol(db, issuers=[issuer], brands=[brand], products=[product, newer], now=now)
    catalogue = await load_catalogue(db)
    assert catalogue.find(limit=9) == [newer, product]
    assert catalogue.find(limit=1) == [newer]
    assert catalogue.find(cursor=newer.id, limit=9) == [product]
    assert catalogue.find(category="liquor", limit=9) == [newer]
    assert catalogue.find(issuer_id="iss_0", limit=9) == []
    assert catalogue.find(legal_class=LegalClass.SINGLE_PURPOSE_BEARER, limit=9) == [product]
    assert catalogue.find(text="酒卡", limit=9) == [newer]
    assert catalogue.find(text="RONGJIAFU", limit=9) == [newer, product]


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ("issuer_capabilities", Capability),
        ("product_legal_class", LegalClass),
        ("product_status", ProductStatus),
        ("product_code_check", CheckAlgorithm),
    ],
)
async def test_words_in_python_are_the_words_in_postgresql(db: Db, constraint: str, words: type[StrEnum]):
    definition = await db.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint
    )
    assert set(re.findall(r"'(\w+)'", definition)) == set(words)


def test_validity_ends_with_a_local_day(now):
    assert Validity(last_day=date(2026, 12, 31)).expires_at(now) == datetime(2026, 12, 31, 16, tzinfo=UTC)
    assert Validity(days_from_issue=1).expires_at(now) == datetime(2026, 11, 23, 16, tzinfo=UTC)
    assert Validity().expires_at(now) == NEVER_EXPIRES
    with pytest.raises(ValueError, match="not both"):
        Validity(last_day=date(2026, 12, 31), days_from_issue=1)


@pytest.mark.parametrize(
    ("wide", "region", "answer"),
    [
        ("510000", "510107", True),
        ("510100", "510107", True),
        ("510107", "510107", True),
        ("510100", "510704", False),
        ("500000", "510107", False),
        ("510000", "510000", True),
    ],
)
def test_a_region_covers_what_lies_in_it(wide, region, answer):
    assert covers(wide, region) is answer


def test_a_product_is_valid_where_both_its_regions_and_its_stores_say_so(product):
    assert product.is_valid_at(region_code="510107", store_id="sto_1")
    assert not product.is_valid_at(region_code="110101", store_id="sto_1")
    one_store = msgspec.structs.replace(product, store_ids=("sto_1",))
    assert one_store.is_valid_at(region_code="510107", store_id="sto_1")
    assert not one_store.is_valid_at(region_code="510107", store_id="sto_2")
    everywhere = msgspec.structs.replace(product, region_codes=())
    assert everywhere.is_valid_at(region_code="110101", store_id="sto_9")
