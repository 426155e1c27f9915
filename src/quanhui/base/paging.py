"""Cursor paging: a page holds items newest first and a cursor for what comes after them.

A cursor is the id of the last item seen. Ids sort by time, so a page costs the same however deep
it lies, and rows that arrive meanwhile shift nothing.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

PAGE_LIMIT = 100
PAGE_DEFAULT = 20

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None


def page_of(rows: Sequence[Item], *, limit: int, cursor_of: str = "id") -> Page[Item]:
    """Make a page from up to `limit + 1` rows: the one too many only says that there is more."""
    items = list(rows[:limit])
    more = len(rows) > limit
    return Page(items, str(getattr(items[-1], cursor_of)) if more else None)
