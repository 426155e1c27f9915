import asyncio
from datetime import timedelta

import asyncpg
import pytest
from hypothesis import given, strategies as st

from evidence.logs import LOG_KEY, commit, event, naive_root, sequence_all, sequence_in, signer
from quanhui import evidence, verifier
from quanhui.base.db import open_pool, transaction
from quanhui.evidence import SignerRefuses, rules, tasks, tree


async def sequenced(where):
    return await where.fetch("SELECT * FROM evidence.leaf ORDER BY leaf_index")


async def assert_whole(where, count: int) -> None:
    """Nothing lost, doubled or forked: contiguous leaves, their root, a chain for each voucher."""
    rows = await sequenced(where)
    assert [row["leaf_index"] for row in rows] == list(range(count))
    assert await where.fetchval("SELECT count(*) FROM evidence.pending") == 0
    head = await where.fetchrow("SELECT size, root FROM evidence.head")
    signed = await evidence.latest_checkpoint(where)
    assert (head["size"], head["root"]) == (count, naive_root([row["body"] for row in rows]))
    assert (signed.size, signed.root) == (count, head["root"])
    assert verifier.open_checkpoint(signed.note, signed.verifier_key).size == count
    tips = {}
    for row in rows:
        known = rules.recorded(row["payload"], row["leaf_index"])
        sequence, prev = tips.get(row["voucher_id"], (0, ""))
        assert known.sequence == row["sequence"] == sequence + 1
        assert f'"prev":"{prev}"' in row["payload"]
        tips[row["voucher_id"]] = (row["sequence"], tree.leaf_hash(row["body"]).hex())


async def test_events_are_in_the_tree_in_the_order_they_were_recorded(db, now):
    await evidence.record(db, [event(1), event(2), event(1, "title_transferred")], now=now)
    rekeyed = event(2, "rekeyed", "ord_2", face_fen=10_000, partly=False)
    await evidence.record(db, [rekeyed], now=now)
    assert [each.leaf_index for each in await evidence.path_of(db, "vch_2")] == [None, None]
    await sequence_in(db, now)
    await assert_whole(db, 4)
    path = await evidence.path_of(db, "vch_2")
    assert [(each.kind, each.sequence, each.leaf_index) for each in path] == [
        ("claimed", 1, 1),
        ("rekeyed", 2, 3),
    ]
    assert (path[1].subject, path[1].facts, path[1].at) == (
        "ord_2",
        {"face_fen": 10_000, "partly": False},
        now,
    )


async def test_an_event_rolled_back_with_its_transaction_never_was(db, now):
    change = db.transaction()
    await change.start()
    await evidence.record(db, [event(1)], now=now)
    await change.rollback()
    await evidence.record(db, [event(2)], now=now)
    await sequence_in(db, now)
    await assert_whole(db, 1)


async def test_an_event_committed_late_is_sequenced_though_later_ones_went_before(pool, now):
    mine = signer()
    async with transaction(pool) as slow:
        await evidence.record(slow, [event(1)], now=now)
        await commit(pool, [event(2)], now)
        assert await sequence_all(pool, mine, now) == 1
    assert await sequence_all(pool, mine, now) == 1
    rows = await sequenced(pool)
    assert [row["voucher_id"] for row in rows] == ["vch_2", "vch_1"]
    await assert_whole(pool, 2)


async def test_tree_and_chains_go_on_over_tile_borders_and_many_batches(db, now):
    mine = signer()
    for batch in (1, 254, 1, 1, 300, 1):
        await evidence.record(db, [event(number % 7) for number in range(batch)], now=now)
        await sequence_in(db, now, by=mine, limit=100)
    await assert_whole(db, 558)


async def kill(pool, name, *, wait_ms):
    """End the sessions of an application as the server would on `kill -9`: their transactions are gone."""
    await pool.execute(
        "SELECT pg_terminate_backend(pid, $2) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()",
        name,
        wait_ms,
    )


async def test_a_sequencer_killed_at_any_moment_leaves_whole_batches_or_nothing(pool, database_url, now):
    doomed = await open_pool(database_url, size=1, application_name="doomed")
    ends = []
    for attempt in range(60):
        await commit(pool, [event(attempt), event(7, "listed"), event(attempt % 5, "delisted")], now)
        working = asyncio.create_task(evidence.sequence_once(doomed, signer(), log_key=LOG_KEY, now=now))
        await asyncio.sleep(attempt * 0.0002)
        await kill(pool, "doomed", wait_ms=0)
        ends += await asyncio.gather(working, return_exceptions=True)
    doomed.terminate()
    await kill(pool, "doomed", wait_ms=5000)
    assert any(isinstance(end, Exception) for end in ends)
    await sequence_all(pool, signer(), now)
    await assert_whole(pool, 180)


async def test_a_sequencer_killed_by_the_server_in_mid_batch_leaves_nothing_behind(pool, database_url, now):
    await commit(pool, [event(number) for number in range(5)], now)
    victim = await asyncpg.connect(database_url, server_settings={"application_name": "doomed"})
    await victim.execute("BEGIN")
    assert await tasks.append_pending(victim, log_key=LOG_KEY) == 5
    assert await sequence_all(pool, signer(), now) == 0
    await kill(pool, "doomed", wait_ms=5000)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await victim.fetch("SELECT 1")
    assert await sequence_all(pool, signer(), now) == 5
    await assert_whole(pool, 5)


async def test_a_head_left_unsigned_by_a_killed_process_is_signed_by_the_next(pool, now):
    await commit(pool, [event(1)], now)
    async with transaction(pool) as db:
        await tasks.append_pending(db, log_key=LOG_KEY)
    assert await evidence.sequence_once(pool, signer(), log_key=LOG_KEY, now=now) == 0
    await assert_whole(pool, 1)


async def test_a_signature_made_but_not_kept_is_made_again_the_same(pool, now, tmp_path):
    await commit(pool, [event(1)], now)
    async with transaction(pool) as db:
        await tasks.append_pending(db, log_key=LOG_KEY)
    async with pool.acquire() as db:
        change = db.transaction()
        await change.start()
        await tasks.sign_head(db, signer(state_file=tmp_path / "state"), now=now)
        note = (await evidence.latest_checkpoint(db)).note
        await change.rollback()
        assert await evidence.latest_checkpoint(db) is None
    await sequence_all(pool, signer(state_file=tmp_path / "state"), now)
    async with pool.acquire() as db:
        assert (await evidence.latest_checkpoint(db)).note == note


async def test_racing_sequencers_and_committers_lose_double_and_fork_nothing(pool, now, monkeypatch):
    monkeypatch.setattr(tasks, "BATCH", 7)
    stop = asyncio.Event()

    async def sequencer(mine):
        while not stop.is_set():
            await evidence.sequence_once(pool, mine, log_key=LOG_KEY, now=now)

    async def committer(voucher):
        for _ in range(15):
            async with transaction(pool) as db:
                await db.execute("SELECT pg_advisory_xact_lock($1)", voucher % 3)
                await evidence.record(db, [event(voucher % 3), event(100 + voucher)], now=now)

    racing = [asyncio.create_task(sequencer(signer())) for _ in range(3)]
    await asyncio.gather(*(committer(number) for number in range(10)))
    stop.set()
    await asyncio.gather(*racing)
    await sequence_all(pool, signer(), now)
    await assert_whole(pool, 300)


async def test_the_loop_stops_when_told_and_survives_a_lost_connection(pool, now):
    stop = asyncio.Event()
    running = asyncio.create_task(
        evidence.run_sequencer(pool, signer(), stop, log_key=LOG_KEY, clock=lambda: now)
    )
    await commit(pool, [event(1)], now)
    await wait_for_checkpoint(pool, 1)
    await kill(pool, "test", wait_ms=5000)
    await commit(pool, [event(2)], now)
    await wait_for_checkpoint(pool, 2)
    stop.set()
    await asyncio.wait_for(running, 2)
    await assert_whole(pool, 2)


async def wait_for_checkpoint(pool, size):
    for _ in range(250):
        async with pool.acquire() as db:
            signed = await evidence.latest_checkpoint(db)
        if signed and signed.size >= size:
            return
        await asyncio.sleep(0.02)
    pytest.fail("no checkpoint within five seconds")


async def test_an_idle_sequencer_locks_and_writes_nothing(pool, now):
    mine = signer()
    await sequence_all(pool, mine, now)
    async with transaction(pool) as other:
        await other.fetch("SELECT FROM evidence.head FOR UPDATE")
        before = await other.fetchval("SELECT pg_current_wal_insert_lsn()")
        assert await evidence.sequence_once(pool, mine, log_key=LOG_KEY, now=now) == 0
        assert await other.fetchval("SELECT pg_current_wal_insert_lsn()") == before


async def test_a_database_restored_from_an_older_backup_is_not_signed(pool, now, tmp_path):
    state = tmp_path / "state"
    await commit(pool, [event(1), event(2)], now)
    await sequence_all(pool, signer(state_file=state), now)
    await go_back_to_nothing(pool)
    await commit(pool, [event(3)], now)
    with pytest.raises(SignerRefuses):
        await sequence_all(pool, signer(state_file=state), now)
    await commit(pool, [event(4), event(5)], now)
    with pytest.raises(SignerRefuses):
        await sequence_all(pool, signer(state_file=state), now)


async def go_back_to_nothing(pool):
    async with transaction(pool) as db:
        await db.execute("ALTER TABLE evidence.leaf DISABLE TRIGGER leaf_is_permanent")
        await db.execute("TRUNCATE evidence.leaf, evidence.tile, evidence.checkpoint")
        await db.execute("ALTER TABLE evidence.leaf ENABLE TRIGGER leaf_is_permanent")
        await db.execute("UPDATE evidence.head SET size = 0, root = $1", tree.EMPTY_ROOT)


async def test_a_tile_changed_in_the_database_stops_the_signer(db, now):
    await evidence.record(db, [event(number) for number in range(3)], now=now)
    await sequence_in(db, now)
    await db.execute("UPDATE evidence.tile SET hashes = sha256('other') || substr(hashes, 33)")
    await evidence.record(db, [event(9)], now=now)
    with pytest.raises(SignerRefuses):
        await sequence_in(db, now)


async def test_a_leaf_is_never_changed_or_removed(db, now):
    await evidence.record(db, [event(1)], now=now)
    await sequence_in(db, now)
    for change in (
        "UPDATE evidence.leaf SET payload = ''",
        "DELETE FROM evidence.leaf",
        "TRUNCATE evidence.leaf",
    ):
        with pytest.raises(asyncpg.RaiseError, match="only grows"):
            async with db.transaction():
                await db.execute(change)


async def test_the_last_checkpoint_of_each_minute_is_kept(db, now):
    for number, second in enumerate((0, 30, 59, 60, 90)):
        at = now + timedelta(seconds=second)
        await evidence.record(db, [event(number)], now=at)
        await sequence_in(db, at)
    sizes = await db.fetch("SELECT size FROM evidence.checkpoint ORDER BY size")
    assert [row["size"] for row in sizes] == [3, 5]


async def test_tags_of_one_voucher_share_nothing_and_need_the_key():
    tags = {rules.blinded_tag(LOG_KEY, "vch_1", number) for number in range(1, 100)}
    tags |= {rules.blinded_tag(bytes(32), "vch_1", 1), rules.blinded_tag(LOG_KEY, "vch_2", 1)}
    assert len(tags) == 101


@pytest.mark.parametrize(
    "wrong",
    [
        {"face_fen": 1.5},
        {"face_fen": None},
        {"face_fen": 2**53},
        {"note": "line\nbreak"},
        {"note": "x" * 201},
        {"Face": 1},
        {f"fact_{number}": 1 for number in range(33)},
    ],
)
def test_a_fact_outside_the_canonical_form_is_refused(wrong, now):
    with pytest.raises(ValueError, match=r"fact|text|integer"):
        rules.draft(event(1, **wrong), rules.instant(now))


FACTS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
    st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(max_size=30).filter(lambda text: text.isprintable()),
    max_size=6,
)


@given(FACTS)
def test_writer_and_verifier_agree_on_the_canonical_bytes(facts):
    """Each side has its own encoder; the commitment holds only if they never differ by a byte."""
    drafted = rules.draft(event(1, **facts), "2026-11-22T04:00:00.000000Z")
    waiting = [rules.Waiting("vch_1", "ord_1", drafted)]
    (leaf,), (digest,) = rules.chain(waiting, {}, log_key=LOG_KEY, salts=bytes(32), first_index=0)
    opened = {
        "leaf_index": 0,
        "payload": verifier.read_receipt(leaf.payload.encode()),
        "salt": leaf.salt.hex(),
        "tag": rules.tag_of(leaf.body).hex(),
        "proof": [],
    }
    index, payload, computed = verifier._open_event(opened, verifier.Checkpoint("x", 1, digest))
    assert (index, payload["facts"], computed) == (0, facts, digest)
