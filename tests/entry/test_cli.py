"""The command line as people meet it: real processes, a real embedded database."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from quanhui import __version__
from quanhui.entry.settings import REQUIRED, load
from quanhui.entry.supervisor import only_one


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="quanhui-cli-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def quanhui(folder):
    """Run a command on a data folder of its own; returns how it ended."""

    def call(*arguments, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QUANHUI_")}
        return subprocess.run(
            [sys.executable, "-m", "quanhui", *arguments],
            env={**kept, "QUANHUI_DATA_DIR": str(folder / "var"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_the_version_is_printed(quanhui):
    assert quanhui("version").stdout.strip() == __version__


def test_printed_secrets_are_a_complete_environment_file(quanhui):
    lines = quanhui("secrets").stdout.splitlines()
    environ = dict(line.split("=", 1) for line in lines)
    assert len(environ) == len(REQUIRED)
    load(environ)


def test_wrong_settings_are_listed_without_a_traceback(quanhui):
    ended = quanhui("check", QUANHUI_HTTP_PORT="x", QUANHUI_HTTP_WORKERS="0")
    assert ended.returncode == 2
    assert "QUANHUI_HTTP_PORT" in ended.stderr
    assert "QUANHUI_HTTP_WORKERS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_migrate_then_check_then_reset_on_the_embedded_database(quanhui, folder):
    before = quanhui("check")
    assert before.returncode == 1
    assert "✗ migrations" in before.stdout
    assert "0001_base.sql" in quanhui("migrate").stdout
    assert quanhui("migrate").stdout == "The schema is up to date.\n"
    after = quanhui("check")
    assert after.returncode == 0, after.stdout + after.stderr
    assert "✗" not in after.stdout
    assert "every book sums to 0" in after.stdout
    assert quanhui("reset", "--yes").returncode == 0
    assert not (folder / "var" / "postgres").exists()


def test_a_database_that_does_not_answer_is_told_in_a_sentence(quanhui, folder):
    ended = quanhui("check", QUANHUI_DATABASE_URL=f"postgresql://x@/x?host={folder}")
    assert ended.returncode == 1
    assert "the database does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["serve", "worker", "sequencer"])
def test_a_process_without_a_database_says_what_to_start(quanhui, command):
    ended = quanhui(command)
    assert ended.returncode == 1
    assert "start `quanhui run` first" in ended.stderr


@pytest.mark.parametrize("command", [("run",), ("reset", "--yes"), ("migrate",)])
def test_what_needs_the_data_folder_is_refused_while_another_holds_it(quanhui, folder, command):
    with only_one(folder / "var" / "run.lock"):
        ended = quanhui(*command)
    assert ended.returncode == 1
    assert f"already running as process {os.getpid()}" in ended.stderr


def test_reset_leaves_a_database_that_is_not_ours_alone(quanhui):
    ended = quanhui("reset", "--yes", QUANHUI_DATABASE_URL="postgresql://db.example.com/quanhui")
    assert ended.returncode == 1
    assert "only deletes an embedded development database" in ended.stderr
