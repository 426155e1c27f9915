"""Regions, merchants, stores and service desks: what each is. Pure."""

from datetime import time
from enum import StrEnum

import msgspec


class RegionLevel(StrEnum):
    """How large a region is."""

    PROVINCE = "province"
    CITY = "city"
    DISTRICT = "district"


class StoreKind(StrEnum):
    """What kind of store it is."""

    HYPERMARKET = "hypermarket"
    SUPERMARKET = "supermarket"
    CONVENIENCE = "convenience"
    RESTAURANT = "restaurant"
    LIQUOR_SHOP = "liquor_shop"
    FUEL_STATION = "fuel_station"
    TRAVEL_AGENCY = "travel_agency"


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """An administrative division 行政区划 by its six-digit GB/T 2260 code; provinces have no parent."""

    code: str
    parent_code: str | None
    level: RegionLevel
    zh: str


class Merchant(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs stores 商户."""

    id: str
    zh: str
    en: str


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """A store 门店. `lon` and `lat` are WGS-84 degrees; it opens and closes at local times."""

    id: str
    merchant_id: str
    region_code: str
    zh: str
    address: str
    kind: StoreKind
    lon: float
    lat: float
    opens: time
    closes: time


class NearbyStore(msgspec.Struct, frozen=True, kw_only=True):
    """A store and how far it is from where someone stands."""

    store: Store
    distance_m: int


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """A service desk 服务台 in a store."""

    id: str
    store_id: str
    zh: str
