"""A few hundred payouts under every fault: the large run is `quanhui simulate settlement`."""

from quanhui.base.db import open_pool
from quanhui.simulation import simulate


async def run(url: str, keyring, seed: int):
    pool = await open_pool(url, size=4, application_name="simulation")
    try:
        return await simulate(pool, keyring, payouts=400, seed=seed)
    finally:
        await pool.close()


async def test_nothing_is_paid_twice_or_stuck_and_every_difference_is_found(
    migrated_url, copy_database, keyring
):
    first, again, other = [await run(await copy_database(migrated_url), keyring, seed) for seed in (7, 7, 8)]
    assert first == again
    assert other.trace_hash != first.trace_hash
    for outcome in (first, other):
        assert (outcome.double_payments, outcome.stuck_without_case, outcome.false_differences) == (0, 0, 0)
        assert outcome.differences_found == outcome.differences_injected > 0
        assert outcome.money_moved_fen > 0
