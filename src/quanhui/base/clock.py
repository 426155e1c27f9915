"""Instants are aware UTC; the day that counts for expiry is the local day in Asia/Shanghai."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")


def now() -> datetime:
    """The present instant. Only entries call this; everything below takes `now` as an argument."""
    return datetime.now(UTC)


def end_of_local_day(day: date) -> datetime:
    """The first instant after the given Shanghai day: a voucher is good while `now < expires_at`."""
    return datetime.combine(day + timedelta(days=1), time.min, SHANGHAI).astimezone(UTC)


def local_day(instant: datetime) -> date:
    """The Shanghai calendar day of an instant."""
    return require_aware(instant).astimezone(SHANGHAI).date()


def whole_days_until(expires_at: datetime, now: datetime) -> int:
    """Local days still to come after today, 0 on the last day, negative once expired."""
    last_day = local_day(expires_at - timedelta(microseconds=1))
    return (last_day - local_day(now)).days


def require_aware(instant: datetime) -> datetime:
    """Return the instant, or raise `ValueError` when it carries no zone."""
    if instant.tzinfo is None:
        raise ValueError("a naive datetime is not an instant")
    return instant
