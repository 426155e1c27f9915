"""`quanhui run` as a newcomer meets it: everything starts on one data folder, and ends without a trace."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

READY_WITHIN_S = 60


def free_ports(count):
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


@pytest.fixture
def environment():
    http, issuer, institution, sms = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="quanhui-run-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QUANHUI_")}
        yield {
            **kept,
            "QUANHUI_DATA_DIR": f"{folder}/var",
            "QUANHUI_HTTP_PORT": str(http),
            "QUANHUI_HTTP_WORKERS": "1",
            "QUANHUI_ISSUER_URL": f"http://127.0.0.1:{issuer}",
            "QUANHUI_INSTITUTION_URL": f"http://127.0.0.1:{institution}",
            "QUANHUI_SMS_URL": f"http://127.0.0.1:{sms}",
            "QUANHUI_SAMPLE_STORES": "10",
            "QUANHUI_SAMPLE_CUSTOMERS": "20",
            "QUANHUI_SAMPLE_VOUCHERS": "200",
        }


def quanhui(environment, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "quanhui", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def wait_for(process, words):
    lines = []
    deadline = time.monotonic() + READY_WITHIN_S
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
        assert time.monotonic() < deadline, "".join(lines)
    raise AssertionError("it ended: " + "".join(lines))


def processes_of(data_dir):
    """Processes whose command line or environment names the data folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if data_dir.encode() in told and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def test_run_starts_everything_restarts_what_dies_and_ends_without_a_trace(environment):
    running = quanhui(environment, "run")
    try:
        told = wait_for(running, "the rest is in")
        assert "is running" in told
        assert "ended" not in told
        data_dir = Path(environment["QUANHUI_DATA_DIR"])
        summary = msgspec.json.decode((data_dir / "sample.json").read_bytes())
        assert summary["own_codes"][0]["code"] in told

        second = quanhui(environment, "run")
        assert f"already running as process {running.pid}" in second.communicate(timeout=30)[0]

        checked = quanhui(environment, "check")
        assert "✗" not in checked.communicate(timeout=30)[0]
        assert checked.returncode == 0

        postgres = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postgres, signal.SIGKILL)
        wait_for(running, "PostgreSQL ended; starting it again")

        stopping_since = time.monotonic()
        running.send_signal(signal.SIGINT)
        assert "Stopped" in running.communicate(timeout=30)[0]
        assert time.monotonic() - stopping_since < 15
        assert running.returncode == 0
    finally:
        running.kill()
        running.communicate()
    assert not processes_of(environment["QUANHUI_DATA_DIR"])


def test_nothing_lives_on_when_run_is_killed_outright(environment):
    running = quanhui(environment, "run")
    wait_for(running, "the rest is in")
    running.kill()
    running.communicate()
    deadline = time.monotonic() + 20
    while processes_of(environment["QUANHUI_DATA_DIR"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(environment["QUANHUI_DATA_DIR"])
