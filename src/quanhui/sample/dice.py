"""Chance that repeats: every kind of sample data draws from dice of its own, thrown by the seed."""

from datetime import UTC, datetime
from random import Random
from typing import Final

EPOCH: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""Sample ids carry this moment, so that the same seed names the same things on every machine."""

_UUID_VERSION_7: Final = 7 << 76
_UUID_VARIANT: Final = 2 << 62
_BASE32: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_SHIFTS: Final = range(125, -1, -5)


def dice(seed: int, kind: str) -> Random:
    """Dice for one kind of data, so that more of one kind leaves the others as they were."""
    return Random(f"{seed}/{kind}")  # noqa: S311 - sample data must repeat


class Names:
    """Ids of one kind that repeat with the seed and sort in the order in which they were taken."""

    def __init__(self, seed: int, prefix: str) -> None:
        self._dice = dice(seed, f"ids of {prefix}")
        self._prefix = prefix
        self._millisecond = int(EPOCH.timestamp() * 1000)

    def next(self) -> str:
        """The next id, a TypeID over a version 7 UUID (RFC 9562)."""
        self._millisecond += 1
        high, low = self._dice.getrandbits(12), self._dice.getrandbits(62)
        number = self._millisecond << 80 | _UUID_VERSION_7 | high << 64 | _UUID_VARIANT | low
        return f"{self._prefix}_" + "".join(_BASE32[number >> shift & 31] for shift in _SHIFTS)
