"""Pages of lists, and small tables kept in memory."""

from datetime import timedelta

import msgspec
import pytest

from quanhui.base.cached import LOOK_AGAIN_AFTER, Cached
from quanhui.base.db import Db
from quanhui.base.paging import page_of


class Thing(msgspec.Struct, frozen=True):
    id: str


THINGS = [Thing(f"thg_{number}") for number in range(3)]


@pytest.mark.parametrize(
    ("found", "shown", "cursor"), [(0, 0, None), (1, 1, None), (2, 2, None), (3, 2, "thg_1")]
)
def test_a_page_has_a_cursor_only_if_there_is_more(found, shown, cursor):
    page = page_of(THINGS[:found], limit=2)
    assert (page.items, page.next_cursor) == (THINGS[:shown], cursor)


class Loads:
    """Counts how often a table was read."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, _db, version: int) -> str:
        self.count += 1
        return f"version {version}"


async def change(db: Db) -> None:
    await db.execute("UPDATE base.data_version SET version = version + 1 WHERE name = 'risk'")


async def test_a_kept_table_is_read_again_only_when_it_changed(db: Db, now):
    loads = Loads()
    kept = Cached("risk", loads)
    first = await kept.get(db, now)
    assert await kept.get(db, now + LOOK_AGAIN_AFTER) == first
    assert loads.count == 1
    await change(db)
    assert await kept.get(db, now + 2 * LOOK_AGAIN_AFTER) != first
    assert loads.count == 2


async def test_a_change_is_seen_after_a_second_at_the_latest(db: Db, now):
    kept = Cached("risk", Loads())
    first = await kept.get(db, now)
    await change(db)
    assert await kept.get(db, now + LOOK_AGAIN_AFTER - timedelta(microseconds=1)) == first
    assert await kept.get(db, now + LOOK_AGAIN_AFTER) != first


async def test_a_clock_that_was_set_back_does_not_keep_a_table_for_ever(db: Db, now):
    kept = Cached("risk", Loads())
    first = await kept.get(db, now)
    await change(db)
    assert await kept.get(db, now - timedelta(hours=1)) != first


async def test_a_table_that_could_not_be_read_is_tried_again_at_once(db: Db, now):
    class Broken(Exception):
        pass

    attempts = []

    async def load(_db, version: int) -> int:
        attempts.append(version)
        if len(attempts) == 1:
            raise Broken
        return version

    kept = Cached("risk", load)
    with pytest.raises(Broken):
        await kept.get(db, now)
    assert await kept.get(db, now) == attempts[0]
