"""Words that the routes of staff and of partners share."""

from typing import Annotated

import msgspec
from litestar.params import PathParameter, QueryParameter
from msgspec import Meta

from quanhui.base.access import Scope, needs
from quanhui.base.paging import PAGE_LIMIT
from quanhui.staff.rules import Status

ADMIN = needs("staff.manage", Scope.ALL)
Reason = Annotated[
    str,
    Meta(description="Why, for the record 原因", min_length=2, max_length=500, examples=["岗位调整"]),
]
PlaceId = Annotated[str, Meta(min_length=5, max_length=40, pattern="^[a-z]+_[0-9a-z]{26}$")]
PathId = Annotated[str, PathParameter(description="Id", max_length=40)]
Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before", max_length=40)]
PageSize = Annotated[int, QueryParameter(description="Items on a page", ge=1, le=PAGE_LIMIT)]


class StaffStatusBody(msgspec.Struct, forbid_unknown_fields=True):
    """The status an account shall have, and why."""

    status: Status
    reason: Reason


class StaffStatusView(msgspec.Struct, frozen=True):
    """An account and the status it has now."""

    id: str
    status: Status
