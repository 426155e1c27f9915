import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from quanhui.entry import supervisor
from quanhui.entry.supervisor import AlreadyRunning, Child, Supervisor, copy_to_log, only_one

LIVE = "import time; print('up', flush=True); time.sleep(60)"


def child(name, code, **environment):
    return Child(name, [sys.executable, "-c", textwrap.dedent(code)], environment)


@asynccontextmanager
async def supervised(children, folder, **options):
    told = []
    stop = asyncio.Event()
    keeper = Supervisor(children, log_dir=folder, report=told.append, **options)
    running = asyncio.create_task(keeper.run(stop))
    try:
        yield keeper, told
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)


async def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_child_writes_its_own_log_and_gets_its_environment(tmp_path):
    code = "import os; print(os.environ['GREETING'], flush=True); import time; time.sleep(60)"
    async with supervised([child("one", code, GREETING="hello")], tmp_path):
        await until((tmp_path / "one.log").exists)
        assert (tmp_path / "one.log").read_text() == "hello\n"


async def test_a_killed_child_is_started_again(tmp_path):
    async with supervised([child("one", LIVE)], tmp_path) as (keeper, told):
        await until(lambda: keeper.pid("one"))
        first = keeper.pid("one")
        os.kill(first, signal.SIGKILL)
        await until(lambda: keeper.pid("one") not in (None, first))
        log = tmp_path / "one.log"
        assert told == [f"one was killed by SIGKILL, see {log}; starting it again in 0.5 s"]


async def test_a_killed_child_is_started_again_though_its_own_child_still_holds_its_output(tmp_path):
    code = f"""
        import subprocess, sys
        grandchild = subprocess.Popen([sys.executable, "-c", {LIVE!r}])
        print(grandchild.pid, flush=True)
        grandchild.wait()
        """
    async with supervised([child("one", code)], tmp_path) as (keeper, _):
        await until((tmp_path / "one.log").exists)
        first, grandchild = keeper.pid("one"), int((tmp_path / "one.log").read_text().split()[0])
        os.kill(first, signal.SIGKILL)
        await until(lambda: keeper.pid("one") not in (None, first))
        assert not is_alive(grandchild)


async def test_a_child_that_keeps_failing_waits_longer_each_time(tmp_path):
    async with supervised([child("one", "raise SystemExit(3)")], tmp_path) as (_, told):
        await until(lambda: len(told) == 3)
    assert [line.rsplit(" in ", 1)[1] for line in told] == ["0.5 s", "1 s", "2 s"]
    assert all("ended with code 3" in line for line in told)


async def test_a_child_that_cannot_be_started_does_not_stop_the_others(tmp_path):
    children = [Child("none", ["/nowhere/at/all"]), child("one", LIVE)]
    async with supervised(children, tmp_path) as (keeper, told):
        await until(lambda: keeper.pid("one") and told)
        assert told[0].startswith("none could not start")


async def test_children_end_in_reverse_order(tmp_path):
    code = """
        import signal, sys, time
        def leave(*_):
            open({file!r}, "a").write({name!r} + " ")
            sys.exit()
        signal.signal(signal.SIGTERM, leave)
        print("up", flush=True)
        time.sleep(60)
    """
    order = tmp_path / "order"
    names = ("first", "second", "third")
    children = [child(name, code.format(file=str(order), name=name)) for name in names]
    async with supervised(children, tmp_path):
        await until(lambda: all((tmp_path / f"{name}.log").exists() for name in names))
    assert order.read_text() == "third second first "


async def test_a_child_that_will_not_end_is_killed_and_so_is_what_it_started(tmp_path):
    code = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(grandchild.pid, flush=True)
        time.sleep(60)
    """
    log = tmp_path / "deaf.log"
    async with supervised([child("deaf", code)], tmp_path, patience_s=0.3) as (keeper, told):
        await until(log.exists)
        pids = [keeper.pid("deaf"), int(log.read_text())]
    assert told == ["deaf did not end in 0.3 s and is killed"]
    await until(lambda: not any(map(is_alive, pids)))


async def test_a_server_that_ended_is_started_again(tmp_path):
    class Flickering:
        starts = 0
        alive = False

        def start(self):
            self.starts += 1
            self.alive = True

        def is_running(self):
            return self.alive

    server = Flickering()
    async with supervised([], tmp_path, server=server) as (_, told):
        await until(lambda: server.starts == 1)
        server.alive = False
        await until(lambda: server.starts == 2)
    assert told == ["PostgreSQL ended; starting it again"] * 2


def test_children_end_when_the_supervisor_is_killed_outright(tmp_path):
    program = f"""
        import asyncio, sys
        from pathlib import Path
        from quanhui.entry.supervisor import Child, Supervisor
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        asyncio.run(Supervisor([Child("one", [sys.executable, "-c", code])],
            log_dir=Path({str(tmp_path)!r}), report=print).run(asyncio.Event()))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    log = tmp_path / "one.log"
    asyncio.run(until(lambda: log.exists() and log.read_text().endswith("\n")))
    pid = int(log.read_text())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    asyncio.run(until(lambda: not is_alive(pid)))


def test_a_second_supervisor_on_the_same_folder_is_refused_by_name(tmp_path):
    lock = tmp_path / "var" / "run.lock"
    with only_one(lock), pytest.raises(AlreadyRunning, match=str(os.getpid())), only_one(lock):
        pass
    with only_one(lock):
        pass


async def test_a_log_moves_aside_when_it_is_full_and_the_oldest_is_dropped(tmp_path):
    source = asyncio.StreamReader()
    line = b"x" * (supervisor.LOG_BYTES - 1) + b"\n"
    copying = asyncio.create_task(copy_to_log(source, tmp_path / "a.log"))
    for _ in range(supervisor.OLD_LOGS + 3):
        source.feed_data(line)
        await asyncio.sleep(0)
    source.feed_eof()
    await copying
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ["a.log", *(f"a.log.{n}" for n in range(1, supervisor.OLD_LOGS + 1))]
    assert all(file.stat().st_size <= supervisor.LOG_BYTES for file in tmp_path.iterdir())
