import math
import re
from collections.abc import AsyncIterator
from datetime import time
from enum import StrEnum
from random import Random

import asyncpg
import httpx
import pytest
from litestar import Litestar
from litestar.di import Provide

from quanhui.base.access import NOBODY, PUBLIC
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.web import Call
from quanhui.places import (
    LONGEST_RADIUS_M,
    Desk,
    Merchant,
    Region,
    RegionLevel,
    Store,
    StoreKind,
    enrol,
    find_regions,
    find_stores,
    get_store,
    get_stores,
    stores_near,
)
from quanhui.places.routes import handlers

REGIONS = [
    Region(code="510000", parent_code=None, level=RegionLevel.PROVINCE, zh="四川省"),
    Region(code="510100", parent_code="510000", level=RegionLevel.CITY, zh="成都市"),
    Region(code="510107", parent_code="510100", level=RegionLevel.DISTRICT, zh="武侯区"),
    Region(code="510700", parent_code="510000", level=RegionLevel.CITY, zh="绵阳市"),
    Region(code="510703", parent_code="510700", level=RegionLevel.DISTRICT, zh="涪城区"),
]
MERCHANT = Merchant(id=new_id("mer"), zh="蓉家福商业集团", en="Rongjiafu Retail Group")
TIANFU_SQUARE = (104.0657, 30.6574)


def a_store(lon: float, lat: float, **more) -> Store:
    fields = {
        "id": new_id("sto"),
        "merchant_id": MERCHANT.id,
        "region_code": "510107",
        "zh": "蓉家福超市 · 武侯区科华北路店",
        "address": "四川省成都市武侯区科华北路1号",
        "kind": StoreKind.SUPERMARKET,
        "opens": time(8),
        "closes": time(22),
    }
    return Store(lon=lon, lat=lat, **{**fields, **more})


async def fill(db: Db, stores: list[Store], *, now, desks: list[Desk] | None = None) -> None:
    await enrol(db, regions=REGIONS, merchants=[MERCHANT], stores=stores, desks=desks or [], now=now)


async def test_what_is_enrolled_is_found_as_it_was(db: Db, now):
    store = a_store(*TIANFU_SQUARE)
    desk = Desk(id=new_id("dsk"), store_id=store.id, zh="服务台")
    await fill(db, [store], desks=[desk], now=now)
    assert await get_store(db, store.id) == (store, [desk])
    assert await get_stores(db, ["sto_0", store.id]) == [store]
    with pytest.raises(NotFound):
        await get_store(db, "sto_0")


async def test_regions_are_listed_within_their_parent(db: Db, now):
    await fill(db, [], now=now)
    assert [r.zh for r in await find_regions(db, parent_code=None)] == ["四川省"]
    assert [r.zh for r in await find_regions(db, parent_code="510000")] == ["成都市", "绵阳市"]
    assert await find_regions(db, parent_code="510107") == []


async def test_stores_are_found_by_every_filter_newest_first(db: Db, now):
    old = a_store(*TIANFU_SQUARE)
    new = a_store(104.74, 31.47, region_code="510703", kind=StoreKind.RESTAURANT, zh="椒麻巷 · 涪城区店")
    await fill(db, [old, new], now=now)
    assert await find_stores(db, limit=9) == [new, old]
    assert await find_stores(db, cursor=new.id, limit=9) == [old]
    assert await find_stores(db, region_code="510000", limit=9) == [new, old]
    assert await find_stores(db, region_code="510100", limit=9) == [old]
    assert await find_stores(db, region_code="510107", limit=9) == [old]
    assert await find_stores(db, kind=StoreKind.RESTAURANT, limit=9) == [new]
    assert await find_stores(db, text="椒麻", limit=9) == [new]
    assert await find_stores(db, text="%", limit=9) == []
    assert await find_stores(db, merchant_id="mer_0", limit=9) == []


async def test_distances_agree_with_published_ones(db: Db):
    """Nashville to Los Angeles airport, the usual example: 2,887.26 km on a sphere of 6,372.8 km."""
    metres = await db.fetchval("SELECT places.distance_m(-86.67, 36.12, -118.40, 33.94)")
    assert metres == pytest.approx(2_887_260 * 6371.0088 / 6372.8, rel=1e-5)


async def test_what_is_near_is_found_nearest_first_and_nothing_else(db: Db, now):
    throw = Random(7)
    lon, lat = TIANFU_SQUARE
    stores = [a_store(lon + throw.uniform(-0.2, 0.2), lat + throw.uniform(-0.2, 0.2)) for _ in range(400)]
    await fill(db, stores, now=now)
    wanted = sorted((m, s.id) for s in stores if (m := haversine_m(lon, lat, s.lon, s.lat)) <= 5000)
    found = await stores_near(db, lon=lon, lat=lat, radius_m=5000, limit=1000)
    assert [near.store.id for near in found] == [store_id for _, store_id in wanted]
    assert [near.distance_m for near in found] == [round(metres) for metres, _ in wanted]
    first = await stores_near(db, lon=lon, lat=lat, radius_m=5000, limit=3)
    assert first == found[:3]


def haversine_m(lon_a: float, lat_a: float, lon_b: float, lat_b: float) -> float:
    a, b = math.radians(lat_a), math.radians(lat_b)
    chord = (
        math.sin((b - a) / 2) ** 2
        + math.cos(a) * math.cos(b) * math.sin(math.radians(lon_b - lon_a) / 2) ** 2
    )
    return 2 * 6371008.8 * math.asin(math.sqrt(chord))


@pytest.mark.parametrize("bearing", range(0, 360, 15))
@pytest.mark.parametrize("lat", [0.0, 30.66, 53.5, -53.5])
async def test_a_store_just_within_the_radius_is_found_in_every_direction(db: Db, now, lat, bearing):
    """The box around the circle must not cut it."""
    radius = LONGEST_RADIUS_M * 0.9999 / 6371008.8
    a, turn = math.radians(lat), math.radians(bearing)
    b = math.asin(math.sin(a) * math.cos(radius) + math.cos(a) * math.sin(radius) * math.cos(turn))
    east = math.atan2(
        math.sin(turn) * math.sin(radius) * math.cos(a), math.cos(radius) - math.sin(a) * math.sin(b)
    )
    await fill(db, [a_store(104 + math.degrees(east), math.degrees(b))], now=now)
    assert len(await stores_near(db, lon=104, lat=lat, radius_m=LONGEST_RADIUS_M, limit=2)) == 1
    assert await stores_near(db, lon=104, lat=lat, radius_m=LONGEST_RADIUS_M - 100, limit=2) == []


async def test_the_nearby_search_uses_the_index(db: Db, now):
    await fill(db, [a_store(100 + n / 100, 30) for n in range(2000)], now=now)
    await db.execute("ANALYZE places.store")
    plan = await db.fetch(
        "EXPLAIN SELECT FROM places.store s WHERE point(s.lon, s.lat) <@ box(point(104, 29), point(105, 31))"
    )
    assert any("store_location" in row[0] for row in plan)


@pytest.mark.parametrize(
    "wrong", [{"lon": 181}, {"lat": -91}, {"lon": math.nan}, {"radius_m": 0}, {"radius_m": 100_001}]
)
async def test_a_search_from_nowhere_is_refused(db: Db, wrong):
    with pytest.raises(ValueError, match=r"longitude|radius"):
        await stores_near(db, **{"lon": 104.0, "lat": 30.0, "radius_m": 1000, "limit": 1, **wrong})


@pytest.mark.parametrize("wrong", [{"lon": 180.1}, {"lat": 90.1}])
async def test_a_store_off_the_earth_is_refused_by_the_database(db: Db, now, wrong):
    with pytest.raises(asyncpg.CheckViolationError):
        await fill(db, [a_store(**{"lon": 104.0, "lat": 30.0, **wrong})], now=now)


@pytest.mark.parametrize(("constraint", "words"), [("region_level", RegionLevel), ("store_kind", StoreKind)])
async def test_words_in_python_are_the_words_in_postgresql(db: Db, constraint: str, words: type[StrEnum]):
    definition = await db.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint
    )
    assert set(re.findall(r"'(\w+)'", definition)) == set(words)


@pytest.fixture
async def client(pool: Pool, now) -> AsyncIterator[httpx.AsyncClient]:
    async def call() -> Call:
        return Call(actor=NOBODY, now=now, pool=pool, target="", key=None, body=b"", device_id=None)

    app = Litestar(handlers, dependencies={"call": Provide(call)}, openapi_config=None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        yield opened


def test_places_are_open_to_anyone():
    assert {handler.opt["access"] for handler in handlers} == {PUBLIC}


async def test_places_are_served(client, pool: Pool, now):
    store = a_store(*TIANFU_SQUARE)
    other = a_store(104.2, 30.7)
    async with transaction(pool) as db:
        await fill(
            db, [store, other], desks=[Desk(id=new_id("dsk"), store_id=store.id, zh="服务台")], now=now
        )
    lon, lat = TIANFU_SQUARE
    near = (await client.get("/places/stores/nearby", params={"lon": lon, "lat": lat})).json()
    assert [(n["store"]["id"], n["distance_m"]) for n in near] == [(store.id, 0)]
    detail = (await client.get(f"/places/stores/{store.id}")).json()
    assert (detail["store"]["opens"], [desk["zh"] for desk in detail["desks"]]) == ("08:00", ["服务台"])
    page = (await client.get("/places/stores", params={"limit": 1, "region": "510100"})).json()
    assert ([s["id"] for s in page["items"]], page["next_cursor"]) == ([other.id], other.id)
    merchants = (await client.get("/places/merchants")).json()
    assert [m["zh"] for m in merchants["items"]] == ["蓉家福商业集团"]
    regions = (await client.get("/places/regions", params={"parent": "510100"})).json()
    assert [r["zh"] for r in regions] == ["武侯区"]
    assert (await client.get("/places/stores/nearby", params={"lon": 200, "lat": 30})).status_code == 400
    assert (await client.get("/places/stores/nearby", params={"lon": "nan", "lat": 30})).status_code == 400
    assert (await client.get("/places/stores", params={"region": "51"})).status_code == 400
