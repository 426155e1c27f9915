"""What the driver says when the database goes away is known as that: wait and repeat, no fault of ours."""

import asyncpg
import pytest

from quanhui.entry.http import DATABASE_AWAY
from quanhui.entry.worker import _is_lost

LOST = [
    ConnectionRefusedError(),
    asyncpg.CannotConnectNowError("the database system is in recovery mode"),
    asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    asyncpg.AdminShutdownError("terminating connection due to administrator command"),
    asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_lost_connection_is_told_as_a_busy_platform_and_waited_for(error):
    assert isinstance(error, DATABASE_AWAY)
    assert _is_lost(error)


@pytest.mark.parametrize(
    "error", [asyncpg.UniqueViolationError("x"), asyncpg.UndefinedTableError("x"), KeyError()]
)
def test_a_fault_of_ours_is_not_blamed_on_the_connection(error):
    assert not isinstance(error, DATABASE_AWAY)
    assert not _is_lost(error)
