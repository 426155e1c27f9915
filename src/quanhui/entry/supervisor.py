"""Runs the platform's processes on one machine: starts them in order, restarts what crashes, stops them all.

Each child has its own process group and a log file that the supervisor writes and rotates. A child that
ends by itself is started again after a pause that doubles while it keeps failing. On stop the children
end in reverse order, so that nothing is accepted that nobody would finish; whoever does not end in time is
killed. If the supervisor itself is killed outright, its children end too (see `lifeline`).
"""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from quanhui.entry.lifeline import die_with_parent

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_AFTER_S = 20.0
WATCH_EVERY_S = 0.5
LOG_BYTES = 10_000_000
OLD_LOGS = 4
CHUNK_BYTES = 65_536

Report = Callable[[str], None]


class AlreadyRunning(Exception):
    """Another supervisor holds this data folder."""


class Child(msgspec.Struct, frozen=True):
    """One process to keep alive. `environment` is added to the supervisor's own."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = {}


class Server(Protocol):
    """What must run before, and longer than, every child: the embedded PostgreSQL."""

    def start(self) -> None:
        """Start and wait until it answers; `RuntimeError` when it does not."""

    def is_running(self) -> bool:
        """Whether its process is alive."""


@contextmanager
def only_one(lock_file: Path) -> Iterator[Path]:
    """Hold a data folder for this process. Raises `AlreadyRunning`; any death frees the lock."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise AlreadyRunning(f"already running as process {lock.read().strip()}") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock_file


class _Running(NamedTuple):
    process: asyncio.subprocess.Process
    copying: asyncio.Task[None]


class Supervisor:
    """Keeps children, and the server they need, alive until told to stop.

    `report` gets one short line for each event worth a person's attention. `patience_s` is how long a child
    may take to end before it is killed. The caller starts and stops the server; here it is started again.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        log_dir: Path,
        report: Report,
        server: Server | None = None,
        patience_s: float = 10.0,
    ) -> None:
        self._children = children
        self._log_dir = log_dir
        self._report = report
        self._server = server
        self._patience_s = patience_s
        self._running: dict[str, _Running] = {}

    def pid(self, name: str) -> int | None:
        """The process id of a child, while it runs."""
        running = self._running.get(name)
        return running.process.pid if running else None

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, keep it alive until `stop` is set, then end it in reverse order."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        watcher = asyncio.create_task(self._watch_server()) if self._server else None
        await stop.wait()
        for child, keeper in reversed([*zip(self._children, keepers, strict=True)]):
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._end(child.name)
        if watcher:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _keep(self, child: Child) -> None:
        pause = FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            ending = await self._run_once(child)
            if time.monotonic() - started > STEADY_AFTER_S:
                pause = FIRST_PAUSE_S
            log = self._log_dir / f"{child.name}.log"
            self._report(f"{child.name} {ending}, see {log}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _run_once(self, child: Child) -> str:
        """Start a child and follow it to its end; says how it ended."""
        printed, prints = os.pipe()  # our own: asyncio's waits for its end, which a grandchild can put off
        source = await _open_reader(printed)
        try:
            process = await asyncio.create_subprocess_exec(
                *child.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=prints,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **child.environment},
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),
            )
        except OSError as error:
            return f"could not start ({error.strerror})"
        finally:
            os.close(prints)
        copying = asyncio.create_task(copy_to_log(source, self._log_dir / f"{child.name}.log"))
        self._running[child.name] = _Running(process, copying)
        code = await process.wait()
        _kill_group(process.pid)  # whatever it left behind would stand in the next one's way
        del self._running[child.name]
        await copying
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    async def _end(self, name: str) -> None:
        running = self._running.pop(name, None)
        if running is None:
            return
        process = running.process
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._patience_s)
        except TimeoutError:
            self._report(f"{name} did not end in {self._patience_s:g} s and is killed")
        _kill_group(process.pid)
        await process.wait()
        await running.copying

    async def _watch_server(self) -> None:
        assert self._server
        pause = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._server.is_running():
                pause = FIRST_PAUSE_S
                continue
            self._report("PostgreSQL ended; starting it again")
            try:
                self._server.start()  # not in a thread: the server ends with the thread that starts it
            except RuntimeError as error:
                self._report(f"{error}; trying again in {pause:g} s")
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)


async def _open_reader(descriptor: int) -> asyncio.StreamReader:
    """A stream of what comes out of a pipe; it closes the descriptor at the end."""
    source = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(source), os.fdopen(descriptor, "rb", buffering=0)
    )
    return source


async def copy_to_log(source: asyncio.StreamReader, file: Path) -> None:
    """Append what a child prints to its log; past `LOG_BYTES` the file moves aside, oldest dropped."""
    while chunk := await source.read(CHUNK_BYTES):
        _append(file, chunk)


def _append(file: Path, chunk: bytes) -> None:
    if file.exists() and file.stat().st_size + len(chunk) > LOG_BYTES:
        rotate(file)
    with file.open("ab") as log:
        log.write(chunk)


def rotate(file: Path) -> None:
    """`x.log` → `x.log.1` → `x.log.2` …, keeping `OLD_LOGS` of them."""
    for number in range(OLD_LOGS, 0, -1):
        older = file.with_name(f"{file.name}.{number - 1}") if number > 1 else file
        if older.exists():
            older.replace(file.with_name(f"{file.name}.{number}"))


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
