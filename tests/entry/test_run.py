"""`quanhui run` as a newcomer meets it: everything starts on one data folder, and ends without a trace."""

import os
import signal
import time
from pathlib import Path

import msgspec
import pytest
from factories.platform import platform_environment, quanhui, wait_for


@pytest.fixture
def environment():
    with platform_environment() as settings:
        yield settings


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
