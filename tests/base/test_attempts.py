import asyncio
from datetime import timedelta

import pytest

from quanhui.base import attempts
from quanhui.base.attempts import Limit, Tally, address_key, one_more
from quanhui.base.db import Db, Pool, in_transaction
from quanhui.base.errors import TooManyAttempts

MINUTE = timedelta(minutes=1)
FIVE = Limit(kind="five", tries=5, within=60 * MINUTE, block=MINUTE, longest_block=4 * MINUTE)
ONE = Limit(kind="one", tries=1, within=MINUTE, block=MINUTE, longest_block=MINUTE)
KEY = b"key"


def use_up(tally: Tally, *, now) -> Tally:
    for _ in range(FIVE.tries):
        tally = one_more(FIVE, tally, now=now)
    return tally


def test_after_the_last_try_the_key_is_blocked_and_told_for_how_long(now):
    tally = use_up(Tally(0, 0, now, None), now=now)
    with pytest.raises(TooManyAttempts) as refused:
        one_more(FIVE, tally, now=now + timedelta(seconds=18.5))
    assert refused.value.facts == {"retry_after_s": 42}
    assert one_more(FIVE, tally, now=now + MINUTE).tries == 1


def test_each_block_in_a_row_lasts_twice_as_long_up_to_a_ceiling(now):
    tally, at, lasted = Tally(0, 0, now, None), now, []
    for _ in range(5):
        tally = use_up(tally, now=at)
        lasted.append((tally.blocked_until - at) // MINUTE)
        at = tally.blocked_until
    assert lasted == [1, 2, 4, 4, 4]


def test_after_a_quiet_time_blocks_are_short_again(now):
    tally = use_up(use_up(Tally(0, 0, now, None), now=now), now=now + MINUTE)
    quiet = tally.blocked_until + FIVE.longest_block
    assert use_up(tally, now=quiet).blocked_until - quiet == MINUTE


def test_tries_of_an_earlier_window_do_not_count(now):
    tally = one_more(FIVE, Tally(4, 0, now, None), now=now + FIVE.within)
    assert (tally.tries, tally.blocked_until) == (1, None)


async def test_an_attempt_refused_by_one_limit_is_counted_by_none(db: Db, now):
    await attempts.count(db, [(ONE, KEY)], now=now)
    for _ in range(FIVE.tries):
        async with db.transaction():
            with pytest.raises(TooManyAttempts):
                await attempts.count(db, [(FIVE, KEY), (ONE, KEY)], now=now)
    await attempts.count(db, [(FIVE, KEY)], now=now)


async def test_keys_and_kinds_are_counted_apart_and_forgiven_apart(db: Db, now):
    await attempts.count(db, [(ONE, KEY), (FIVE, KEY)], now=now)
    await attempts.count(db, [(ONE, b"other")], now=now)
    await attempts.forgive(db, ONE, KEY)
    await attempts.count(db, [(ONE, KEY)], now=now)
    with pytest.raises(TooManyAttempts):
        await attempts.count(db, [(ONE, b"other")], now=now)


async def test_parallel_attempts_cannot_slip_through_together(pool: Pool, now):
    async def attempt() -> bool:
        try:
            await in_transaction(pool, lambda db: attempts.count(db, [(FIVE, KEY)], now=now))
        except TooManyAttempts:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt() for _ in range(20)))) == FIVE.tries


async def test_old_tallies_are_swept_but_not_those_still_blocked(db: Db, now):
    forever = Limit(
        kind="forever", tries=1, within=MINUTE, block=timedelta(days=99), longest_block=timedelta(days=99)
    )
    await attempts.count(db, [(ONE, KEY), (forever, KEY)], now=now)
    assert await attempts.sweep(db, now=now + attempts.KEEP) == 0
    assert await attempts.sweep(db, now=now + attempts.KEEP + 2 * MINUTE) == 1


def test_one_subscriber_of_ipv6_is_one_address(keyring):
    assert address_key(keyring, "2001:db8:1:2::1") == address_key(keyring, "2001:db8:1:2:ffff::9")
    assert address_key(keyring, "2001:db8:1:2::1") != address_key(keyring, "2001:db8:1:3::1")
    assert address_key(keyring, "192.0.2.1") != address_key(keyring, "192.0.2.2")
