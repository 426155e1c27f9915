"""Where vouchers are bought back and spent: regions 行政区划, merchants 商户, stores 门店, desks 服务台.

Regions carry the six-digit codes of GB/T 2260, so that a province covers its cities by the start of
their codes. A merchant runs stores; a store stands in a district, at WGS-84 coordinates; some stores
have a service desk where staff buy vouchers back over the counter.

`stores_near` answers "what is near me" from one index on points: a box finds the candidates, the
great-circle distance judges them.
"""

from quanhui.places.actions import (
    LONGEST_RADIUS_M,
    enrol,
    find_merchants,
    find_regions,
    find_stores,
    get_merchants,
    get_store,
    get_stores,
    stores_near,
)
from quanhui.places.rules import (
    Desk,
    Merchant,
    NearbyStore,
    Region,
    RegionLevel,
    Store,
    StoreKind,
)

__all__ = [
    "LONGEST_RADIUS_M",
    "Desk",
    "Merchant",
    "NearbyStore",
    "Region",
    "RegionLevel",
    "Store",
    "StoreKind",
    "enrol",
    "find_merchants",
    "find_regions",
    "find_stores",
    "get_merchants",
    "get_store",
    "get_stores",
    "stores_near",
]
