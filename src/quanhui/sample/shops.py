"""Merchants, stores and service desks on real divisions: a chain at home in Sichuan, and its neighbours."""

import math
from collections.abc import Sequence
from datetime import time
from random import Random

import msgspec

from quanhui.places import Desk, Merchant, RegionLevel, Store, StoreKind
from quanhui.sample.dice import Names, dice
from quanhui.sample.divisions import divisions, full_name

PROVINCE_WEIGHTS = {"51": 72, "50": 13, "52": 5, "53": 4, "61": 4, "62": 2}
HOME_CITY, HOME_CITY_WEIGHT = "5101", 10
KIND_OF_DISTRICT_WEIGHTS = {"区": 4, "市": 2, "县": 1}
GROUP_SHARE_PERCENT = 92
DESK_EVERY = 3
MOST_SPREAD_KM = 6.0
KM_PER_DEGREE = 111.2

STREETS = (
    "人民", "建设", "解放", "和平", "文化", "新华", "滨江", "迎宾", "育才", "交通", "光明",
    "青年", "东风", "科华", "锦绣", "桂花", "芙蓉", "玉泉", "双桥", "金沙", "龙泉", "银杏",
    "梧桐", "望江", "春熙", "天府", "长宁", "永丰", "府河", "清江", "海棠", "凤凰", "石桥",
    "花园", "学府", "体育", "兴业", "安康", "顺城", "大庆",
)  # fmt: skip
STREET_ENDINGS = ("路", "东路", "西路", "南路", "北路", "中路", "街", "大道", "一段", "二段", "横街", "巷")
ORDINALS = "二三四五六七八九"


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of store as one merchant runs it."""

    merchant: int
    sign: str
    kind: StoreKind
    weight: int
    opens: time = time(8)
    closes: time = time(22)


MERCHANTS = (
    ("蓉家福商业集团", "Rongjiafu Retail Group"),
    ("川醴坊酒业", "Chuanlifang Spirits"),
    ("椒麻巷餐饮", "Jiaoma Lane Restaurants"),
    ("九格鼎火锅", "Nine-Grid Hotpot"),
    ("锦程能源", "Jincheng Fuel"),
    ("行川旅行社", "Xingchuan Travel"),
)
GROUP_TRADES = (
    Trade(merchant=0, sign="蓉家福超市", kind=StoreKind.SUPERMARKET, weight=55),
    Trade(merchant=0, sign="蓉家福大卖场", kind=StoreKind.HYPERMARKET, weight=10, opens=time(7, 30)),
    Trade(
        merchant=0,
        sign="蓉家福便利",
        kind=StoreKind.CONVENIENCE,
        weight=35,
        opens=time(7),
        closes=time(23, 30),
    ),
)
OTHER_TRADES = (
    Trade(merchant=1, sign="川醴坊", kind=StoreKind.LIQUOR_SHOP, weight=25, opens=time(9)),
    Trade(
        merchant=2,
        sign="椒麻巷",
        kind=StoreKind.RESTAURANT,
        weight=30,
        opens=time(10, 30),
        closes=time(21, 30),
    ),
    Trade(
        merchant=3, sign="九格鼎火锅", kind=StoreKind.RESTAURANT, weight=20, opens=time(11), closes=time(23)
    ),
    Trade(
        merchant=4, sign="锦程加油站", kind=StoreKind.FUEL_STATION, weight=15, opens=time(6), closes=time(23)
    ),
    Trade(
        merchant=5, sign="行川旅行", kind=StoreKind.TRAVEL_AGENCY, weight=10, opens=time(9), closes=time(18)
    ),
)


class Shops(msgspec.Struct, frozen=True):
    """What `places.enrol` takes, regions apart."""

    merchants: list[Merchant]
    stores: list[Store]
    desks: list[Desk]


class _Site(msgspec.Struct, frozen=True):
    """A district where stores may stand, and the point round which they cluster."""

    code: str
    centre: tuple[float, float]
    spread_km: float
    weight: float


def make_shops(seed: int, count: int) -> Shops:
    """So many stores; every third store of the group, and its first, has a service desk."""
    throw = dice(seed, "stores")
    merchant_ids, store_ids, desk_ids = (Names(seed, prefix) for prefix in ("mer", "sto", "dsk"))
    merchants = [Merchant(id=merchant_ids.next(), zh=zh, en=en) for zh, en in MERCHANTS]
    sites = _sites()
    chosen = throw.choices(sites, [site.weight for site in sites], k=count)
    taken: set[str] = set()
    stores = [
        _store(throw, store_ids.next(), _trade(throw, position), site, merchants, taken)
        for position, site in enumerate(chosen)
    ]
    own = [store for store in stores if store.merchant_id == merchants[0].id]
    desks = [Desk(id=desk_ids.next(), store_id=store.id, zh="服务台") for store in own[::DESK_EVERY]]
    return Shops(merchants, stores, desks)


def _trade(throw: Random, position: int) -> Trade:
    """The first store is the group's, so that even the smallest sample has one."""
    of_group = position == 0 or throw.randrange(100) < GROUP_SHARE_PERCENT
    trades = GROUP_TRADES if of_group else OTHER_TRADES
    return throw.choices(trades, [trade.weight for trade in trades])[0]


def _store(
    throw: Random, store_id: str, trade: Trade, site: _Site, merchants: Sequence[Merchant], taken: set[str]
) -> Store:
    street = throw.choice(STREETS) + throw.choice(STREET_ENDINGS)
    name = f"{trade.sign} · {divisions()[site.code].region.zh}{street}"
    unique = next(
        n for n in (f"{name}店", *(f"{name}{o}店" for o in ORDINALS), f"{name}{store_id}") if n not in taken
    )
    taken.add(unique)
    lon, lat = _near(throw, site)
    return Store(
        id=store_id,
        merchant_id=merchants[trade.merchant].id,
        region_code=site.code,
        zh=unique,
        address=f"{full_name(site.code)}{street}{throw.randrange(1, 400)}号",
        kind=trade.kind,
        lon=lon,
        lat=lat,
        opens=trade.opens,
        closes=trade.closes,
    )


def _near(throw: Random, site: _Site) -> tuple[float, float]:
    """A point near the centre, never farther than `MOST_SPREAD_KM`."""
    distance_km = min(abs(throw.gauss(0, site.spread_km)), MOST_SPREAD_KM)
    bearing = throw.uniform(0, 2 * math.pi)
    lon, lat = site.centre
    north = distance_km * math.cos(bearing) / KM_PER_DEGREE
    east = distance_km * math.sin(bearing) / (KM_PER_DEGREE * math.cos(math.radians(lat)))
    return round(lon + east, 6), round(lat + north, 6)


def _sites() -> list[_Site]:
    """Districts of the chain's provinces with a centre of their own; urban ones may share their city's."""
    sites = []
    for code, division in divisions().items():
        if division.region.level is not RegionLevel.DISTRICT or code[:2] not in PROVINCE_WEIGHTS:
            continue
        ending = division.region.zh[-1]
        city = divisions()[code[:4] + "00"]
        centre = division.centre or (city.centre if ending == "区" else None)
        if centre:
            weight = KIND_OF_DISTRICT_WEIGHTS.get(ending, 1) * (
                HOME_CITY_WEIGHT if code[:4] == HOME_CITY else 1
            )
            sites.append(_Site(code, centre, 2.0 if ending == "区" else 1.0, weight))
    totals: dict[str, float] = {}
    for site in sites:
        totals[site.code[:2]] = totals.get(site.code[:2], 0) + site.weight
    return [
        msgspec.structs.replace(
            site, weight=site.weight * PROVINCE_WEIGHTS[site.code[:2]] / totals[site.code[:2]]
        )
        for site in sites
    ]
