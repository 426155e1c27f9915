"""Add places, and find them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from quanhui.base.db import Db, Row, load_queries
from quanhui.base.errors import NotFound
from quanhui.places.rules import (
    Desk,
    Merchant,
    NearbyStore,
    Region,
    RegionLevel,
    Store,
    StoreKind,
)

queries = load_queries(__file__)

LONGEST_RADIUS_M = 100_000


async def enrol(
    db: Db,
    *,
    regions: Sequence[Region] = (),
    merchants: Sequence[Merchant] = (),
    stores: Sequence[Store] = (),
    desks: Sequence[Desk] = (),
    now: datetime,
) -> None:
    """Add many places at once, by COPY."""
    await _copy(db, "region", regions, {})
    await _copy(db, "merchant", merchants, {"created_at": now})
    await _copy(db, "store", stores, {"created_at": now})
    await _copy(db, "desk", desks, {"created_at": now})


async def find_regions(db: Db, *, parent_code: str | None) -> list[Region]:
    """Regions directly within another; provinces without a parent."""
    rows = await queries.find_regions(db, parent_code=parent_code)
    return [Region(**{**row, "level": RegionLevel(row["level"])}) for row in rows]


async def find_merchants(db: Db, *, cursor: str | None, limit: int) -> list[Merchant]:
    """Merchants, newest first, after a cursor."""
    return [Merchant(**row) for row in await queries.find_merchants(db, cursor=cursor, limit=limit)]


async def get_merchants(db: Db, ids: Sequence[str]) -> list[Merchant]:
    """Merchants by id, in order of id; ids that do not exist are passed over."""
    return [Merchant(**row) for row in await queries.get_merchants(db, ids=list(ids))]


async def find_stores(
    db: Db,
    *,
    merchant_id: str | None = None,
    region_code: str | None = None,
    kind: StoreKind | None = None,
    text: str | None = None,
    cursor: str | None = None,
    limit: int,
) -> list[Store]:
    """Stores that match every filter given, newest first; `text` is part of a name or address."""
    rows = await queries.find_stores(
        db,
        merchant_id=merchant_id,
        region_prefix=region_code and region_code.removesuffix("00").removesuffix("00"),
        kind=kind,
        text=text,
        cursor=cursor,
        limit=limit,
    )
    return [_store(row) for row in rows]


async def get_stores(db: Db, ids: Sequence[str]) -> list[Store]:
    """Stores by id, in order of id; ids that do not exist are passed over."""
    return [_store(row) for row in await queries.get_stores(db, ids=list(ids))]


async def get_store(db: Db, store_id: str) -> tuple[Store, list[Desk]]:
    """One store with its service desks. Raises `NotFound`."""
    stores = await get_stores(db, [store_id])
    if not stores:
        raise NotFound
    return stores[0], [Desk(**row) for row in await queries.find_desks(db, store_ids=[store_id])]


async def stores_near(db: Db, *, lon: float, lat: float, radius_m: int, limit: int) -> list[NearbyStore]:
    """Stores within `radius_m` metres of a WGS-84 point, nearest first, by great-circle distance.

    Raises `ValueError` for a point that is not on the Earth or a radius not in 1…`LONGEST_RADIUS_M`.
    """
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):  # noqa: PLR2004 - degrees
        raise ValueError("longitude is within ±180 degrees and latitude within ±90")
    if not 1 <= radius_m <= LONGEST_RADIUS_M:
        raise ValueError(f"the radius is between 1 and {LONGEST_RADIUS_M} metres")
    rows = await queries.stores_near(db, lon=lon, lat=lat, radius_m=radius_m, limit=limit)
    return [NearbyStore(store=_store(row), distance_m=round(row["distance_m"])) for row in rows]


async def _copy(db: Db, table: str, things: Sequence[Any], more: dict[str, Any]) -> None:
    if things:
        fields = things[0].__struct_fields__
        await db.copy_records_to_table(
            table,
            schema_name="places",
            columns=[*fields, *more],
            records=[(*(getattr(thing, name) for name in fields), *more.values()) for thing in things],
        )


def _store(row: Row) -> Store:
    return Store(
        id=row["id"],
        merchant_id=row["merchant_id"],
        region_code=row["region_code"],
        zh=row["zh"],
        address=row["address"],
        kind=StoreKind(row["kind"]),
        lon=row["lon"],
        lat=row["lat"],
        opens=row["opens"],
        closes=row["closes"],
    )
