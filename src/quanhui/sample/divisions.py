"""Real administrative divisions: `divisions.csv` holds codes and names of GB/T 2260 and centres of places.

Centres are WGS-84, rounded to a hundredth of a degree (about a kilometre). Those of cities, and of some
districts, are rounded from GeoNames (https://www.geonames.org, CC BY 4.0); the others we wrote ourselves.
"""

import csv
from functools import cache
from importlib.resources import files

import msgspec

from quanhui.places import Region, RegionLevel

NOT_A_PLACE = ("市辖区", "县", "省直辖县级行政区划", "自治区直辖县级行政区划")
"""Second-level entries of the standard that only group districts."""


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """A province, city or district, with its centre where the table knows it."""

    region: Region
    centre: tuple[float, float] | None


@cache
def divisions() -> dict[str, Division]:
    """All divisions by code, the wider ones first."""
    table = files("quanhui.sample").joinpath("divisions.csv").read_text("utf-8")
    found = [_division(**row) for row in csv.DictReader(table.splitlines())]
    order = list(RegionLevel)
    found.sort(key=lambda division: (order.index(division.region.level), division.region.code))
    return {division.region.code: division for division in found}


def full_name(code: str) -> str:
    """A division as it stands in an address: 四川省成都市武侯区."""
    here, names = divisions()[code].region, []
    while True:
        if here.zh not in NOT_A_PLACE:
            names.append(here.zh)
        if here.parent_code is None:
            return "".join(reversed(names))
        here = divisions()[here.parent_code].region


def _division(*, code: str, zh: str, lon: str, lat: str) -> Division:
    if code.endswith("0000"):
        level, parent_code = RegionLevel.PROVINCE, None
    elif code.endswith("00"):
        level, parent_code = RegionLevel.CITY, code[:2] + "0000"
    else:
        level, parent_code = RegionLevel.DISTRICT, code[:4] + "00"
    return Division(
        region=Region(code=code, parent_code=parent_code, level=level, zh=zh),
        centre=(float(lon), float(lat)) if lon else None,
    )
