"""Places over HTTP: where vouchers are bought back and spent. Anyone may look."""

from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter
from msgspec import Meta, Struct

from quanhui.base.access import open_to_public
from quanhui.base.db import Db
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call
from quanhui.places.actions import (
    LONGEST_RADIUS_M,
    find_merchants,
    find_regions,
    find_stores,
    get_store,
    stores_near,
)
from quanhui.places.rules import RegionLevel, Store, StoreKind

LocalTime = Annotated[str, Meta(pattern="^[0-2][0-9]:[0-5][0-9]$", description="Local time.")]
REGION_CODE = "^[1-9][0-9]{5}$"
Cursor = Annotated[str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before.")]
StoreId = Annotated[str, PathParameter(max_length=64, description="Store id.")]
Kind = Annotated[StoreKind | None, QueryParameter(description="Kind of store.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
RegionCode = Annotated[str | None, QueryParameter(pattern=REGION_CODE, description="GB/T 2260 code.")]
Longitude = Annotated[float, QueryParameter(ge=-180, le=180, description="WGS-84 longitude, degrees east.")]
Latitude = Annotated[float, QueryParameter(ge=-90, le=90, description="WGS-84 latitude, degrees north.")]
Radius = Annotated[int, QueryParameter(ge=1, le=LONGEST_RADIUS_M, description="Metres around the point.")]


class RegionView(Struct, frozen=True):
    """An administrative division 行政区划."""

    code: Annotated[str, Meta(description="GB/T 2260 code.", examples=["510107"])]
    zh: Annotated[str, Meta(examples=["武侯区"])]
    level: RegionLevel
    parent_code: str | None


class MerchantView(Struct, frozen=True):
    """A merchant 商户."""

    id: str
    zh: str
    en: str


class StoreView(Struct, frozen=True, kw_only=True):
    """A store 门店."""

    id: Annotated[str, Meta(examples=["sto_01jd8x9k2mf3wvq5t7y1h4n6pz"])]
    zh: Annotated[str, Meta(examples=["蓉家福超市 · 武侯区科华北路店"])]
    merchant_id: str
    region_code: str
    address: str
    kind: StoreKind
    lon: Annotated[float, Meta(description="WGS-84 degrees east.")]
    lat: Annotated[float, Meta(description="WGS-84 degrees north.")]
    opens: Annotated[LocalTime, Meta(examples=["08:00"])]
    closes: Annotated[LocalTime, Meta(examples=["22:00"])]


class DeskView(Struct, frozen=True):
    """A service desk 服务台."""

    id: str
    zh: str


class StoreDetail(Struct, frozen=True):
    """A store and its service desks."""

    store: StoreView
    desks: list[DeskView]


class NearbyStoreView(Struct, frozen=True):
    """A store and how far it is."""

    store: StoreView
    distance_m: Annotated[int, Meta(description="Great-circle metres.")]


@get("/places/regions", opt=open_to_public(), operation_id="list_regions", tags=["places"])
async def list_regions(call: NamedDependency[Call], parent: RegionCode = None) -> Response[list[RegionView]]:
    """List regions 行政区划

    The divisions directly within `parent`; without it, the provinces.
    """
    regions = await call.query(lambda db: find_regions(db, parent_code=parent))
    return Response([RegionView(r.code, r.zh, r.level, r.parent_code) for r in regions])


@get("/places/merchants", opt=open_to_public(), operation_id="list_merchants", tags=["places"])
async def list_merchants(
    call: NamedDependency[Call], cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Response[Page[MerchantView]]:
    """List merchants 商户

    Newest first.
    """
    merchants = await call.query(lambda db: find_merchants(db, cursor=cursor, limit=limit + 1))
    return Response(page_of([MerchantView(m.id, m.zh, m.en) for m in merchants], limit=limit))


@get("/places/stores", opt=open_to_public(), operation_id="list_stores", tags=["places"])
async def list_stores(
    call: NamedDependency[Call],
    merchant: Annotated[str | None, QueryParameter(max_length=64, description="Merchant id.")] = None,
    region: RegionCode = None,
    kind: Kind = None,
    text: Annotated[
        str | None, QueryParameter(max_length=100, description="Part of a name or address.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[StoreView]]:
    """List stores 门店

    Newest first; every filter narrows the list. A province or city stands for all within it.
    """

    async def read(db: Db) -> list[Store]:
        return await find_stores(
            db,
            merchant_id=merchant,
            region_code=region,
            kind=kind,
            text=text,
            cursor=cursor,
            limit=limit + 1,
        )

    stores = await call.query(read)
    return Response(page_of([_view(store) for store in stores], limit=limit))


@get("/places/stores/nearby", opt=open_to_public(), operation_id="list_stores_nearby", tags=["places"])
async def list_stores_nearby(
    call: NamedDependency[Call],
    lon: Longitude,
    lat: Latitude,
    radius_m: Radius = 3000,
    limit: Limit = PAGE_DEFAULT,
) -> Response[list[NearbyStoreView]]:
    """List stores nearby 附近门店

    Nearest first, with the distance of each.
    """
    found = await call.query(lambda db: stores_near(db, lon=lon, lat=lat, radius_m=radius_m, limit=limit))
    return Response([NearbyStoreView(_view(near.store), near.distance_m) for near in found])


@get("/places/stores/{store_id:str}", opt=open_to_public(), operation_id="get_store", tags=["places"])
async def show_store(call: NamedDependency[Call], store_id: StoreId) -> Response[StoreDetail]:
    """Show a store 门店

    One store with its service desks.
    """
    store, desks = await call.query(lambda db: get_store(db, store_id))
    return Response(StoreDetail(_view(store), [DeskView(desk.id, desk.zh) for desk in desks]))


def _view(store: Store) -> StoreView:
    told = {name: getattr(store, name) for name in store.__struct_fields__}
    return StoreView(**{**told, "opens": f"{store.opens:%H:%M}", "closes": f"{store.closes:%H:%M}"})


handlers: list[HTTPRouteHandler] = [
    list_regions,
    list_merchants,
    list_stores,
    list_stores_nearby,
    show_store,
]
