"""Limits on trying: codes asked for, passwords guessed, numbers probed.

An attempt is counted before it is judged and in a transaction that commits either way, so parallel
guesses cannot slip through together. When a round of tries is used up the key is blocked; each further
block in a row lasts twice as long, up to a ceiling. A refused attempt changes nothing: it lengthens no block.
"""

import ipaddress
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from quanhui.base.db import Db, load_queries
from quanhui.base.errors import TooManyAttempts
from quanhui.base.keyring import Keyring

queries = load_queries(__file__, "attempts.sql")

KEEP = timedelta(days=7)
_MOST_DOUBLINGS = 20
_ONE_SUBSCRIBER_V6 = 64


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """`tries` in a window of `within`, then a block of `block`, doubling up to `longest_block`."""

    kind: str
    tries: int
    within: timedelta
    block: timedelta
    longest_block: timedelta


class Tally(msgspec.Struct, frozen=True):
    """What is known of a key: tries since the round began, blocks in a row, when the last block ends."""

    tries: int
    rounds: int
    since: datetime
    blocked_until: datetime | None


def one_more(limit: Limit, tally: Tally, *, now: datetime) -> Tally:
    """The tally after one more attempt. Raises `TooManyAttempts` while the key is blocked."""
    block_end = tally.blocked_until
    if block_end is not None and now < block_end:
        raise TooManyAttempts(retry_after_s=math.ceil((block_end - now).total_seconds()))
    round_over = now >= tally.since + limit.within or (block_end is not None and tally.since < block_end)
    quiet = block_end is None or now >= block_end + limit.longest_block
    tries = 1 if round_over else tally.tries + 1
    since = now if round_over else tally.since
    rounds = 0 if quiet else tally.rounds
    if tries < limit.tries:
        return Tally(tries, rounds, since, block_end)
    block = min(limit.block * 2 ** min(rounds, _MOST_DOUBLINGS), limit.longest_block)
    return Tally(tries, rounds + 1, since, now + block)


async def count(db: Db, attempts: Sequence[tuple[Limit, bytes]], *, now: datetime) -> None:
    """Count one attempt under every limit, or raise `TooManyAttempts` and count none.

    The key is a keyed fingerprint of whatever is limited (a phone, a login, an address).
    """
    limits = {(limit.kind, key): limit for limit, key in attempts}
    rows = await queries.lock_tallies(
        db, kinds=[kind for kind, _ in limits], keys=[key for _, key in limits], now=now
    )
    after = [
        (row["kind"], row["key"], one_more(limits[row["kind"], row["key"]], _tally(row), now=now))
        for row in rows
    ]
    await queries.store_tallies(
        db,
        kinds=[kind for kind, _, _ in after],
        keys=[key for _, key, _ in after],
        tries=[tally.tries for _, _, tally in after],
        rounds=[tally.rounds for _, _, tally in after],
        since=[tally.since for _, _, tally in after],
        blocked_until=[tally.blocked_until for _, _, tally in after],
    )


def address_key(keyring: Keyring, host: str) -> bytes:
    """The key of a network address; of IPv6 the first 64 bits, because one subscriber holds all the rest."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return keyring.fingerprint("address", host)
    if address.version == 6:  # noqa: PLR2004 - the protocol's name
        network = ipaddress.ip_network((address, _ONE_SUBSCRIBER_V6), strict=False)
        return keyring.fingerprint("address", str(network))
    return keyring.fingerprint("address", str(address))


async def forgive(db: Db, limit: Limit, key: bytes) -> None:
    """Forget what was counted: the right answer came."""
    await queries.forget_tally(db, kind=limit.kind, key=key)


async def sweep(db: Db, *, now: datetime) -> int:
    """Remove tallies that can no longer matter; returns how many."""
    removed: int = await queries.forget_old_tallies(db, before=now - KEEP)
    return removed


def _tally(row: object) -> Tally:
    return msgspec.convert(dict(row), Tally)  # type: ignore[call-overload]
