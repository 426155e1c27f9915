import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import asyncpg
import pytest

from quanhui.entry import postgres as module
from quanhui.entry.postgres import EmbeddedPostgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user to hand over to")


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="quanhui-pg-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def start(folder):
    """Start servers that are stopped afterwards, whatever happened."""
    servers = []

    def begin(data_dir=folder / "var"):
        server = EmbeddedPostgres(data_dir)
        servers.append(server)
        server.start()
        return server

    yield begin
    for server in servers:
        if server.is_running():
            server.stop()
    for server in servers:
        if server.data.exists():
            server.remove()


async def ask(server, sql):
    db = await asyncpg.connect(server.url)
    try:
        return await db.fetchval(sql)
    finally:
        await db.close()


async def test_data_survive_a_stop_and_a_start(start):
    server = start()
    await ask(server, "CREATE TABLE kept AS SELECT 1 AS one")
    server.stop()
    assert not server.is_running()
    assert not server.is_served()
    server.start()
    assert await ask(server, "SELECT one FROM kept") == 1


async def test_data_survive_a_kill_and_a_start_while_sessions_work(start):
    server = start()
    await ask(server, "CREATE TABLE kept AS SELECT 1 AS one")
    busy = await asyncpg.connect(server.url)
    working = asyncio.create_task(busy.fetchval("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.1)
    os.kill(server.pid, signal.SIGKILL)
    server._process.wait()
    assert not server.is_running()
    server.start()
    assert await ask(server, "SELECT one FROM kept") == 1
    with pytest.raises(asyncpg.PostgresError):
        await working


async def test_a_server_left_over_by_another_process_gives_way(start, folder):
    first = start()
    second = start()
    first._process.wait(5)
    assert second.is_running()
    assert await ask(second, "SELECT 1") == 1


def test_the_server_ends_when_its_starter_is_killed_outright(folder):
    program = f"""
        import time
        from pathlib import Path
        from quanhui.entry.postgres import EmbeddedPostgres
        server = EmbeddedPostgres(Path({str(folder)!r}))
        server.start()
        print(server.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE
    ) as starter:
        pid = int(starter.stdout.readline())
        watcher = EmbeddedPostgres(folder)
        assert watcher.is_served()
        starter.kill()
    deadline = time.monotonic() + 10
    while watcher.is_served() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not watcher.is_served(), f"process {pid} lives on"


async def test_a_path_too_long_for_a_socket_is_served_from_elsewhere(start, folder):
    server = start(folder / ("long-" * 12) / ("longer-" * 8))
    assert await ask(server, "SELECT 1") == 1
    assert str(folder) in str(server.data)


async def test_a_path_with_spaces_and_signs_works(start, folder):
    server = start(folder / "券 & 50% #1")
    assert await ask(server, "SELECT 1") == 1


async def test_only_the_owner_may_enter_the_socket_folder_and_no_port_is_open(start):
    server = start()
    assert stat.S_IMODE(server._sockets.stat().st_mode) == 0o700
    assert await ask(server, "SHOW listen_addresses") == ""
    assert await ask(server, "SHOW fsync") == "on"


@as_root
async def test_a_folder_that_only_root_may_enter_keeps_its_data_elsewhere(start, folder):
    folder.chmod(0o700)
    server = start()
    assert module.FALLBACK_HOME in server.data.parents
    await ask(server, "CREATE TABLE kept AS SELECT 1 AS one")
    server.stop()
    assert EmbeddedPostgres(folder / "var").data == server.data
    shutil.rmtree(folder / "var")
    assert EmbeddedPostgres(folder / "var").data != server.data, "a new folder must not find old data"


@as_root
def test_the_server_never_runs_as_root(start):
    server = start()
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0


@as_root
async def test_a_strict_umask_does_not_lock_the_server_out(start, folder):
    before = os.umask(0o077)
    try:
        server = start(folder / "a" / "b")
    finally:
        os.umask(before)
    assert await ask(server, "SELECT 1") == 1
    assert folder in server.data.parents


def test_removing_the_data_leaves_nothing_behind(start):
    server = start()
    server.stop()
    server.remove()
    assert not server.data.exists()
    assert not server._sockets.exists()


def test_a_server_that_cannot_start_says_what_its_log_says(start):
    server = start()
    server.stop()
    (server.data / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(RuntimeError, match="no_such_setting"):
        server.start()
