"""The whole platform as processes, on a data folder and ports of its own."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from quanhui.entry.development import channel_accounts
from quanhui.entry.settings import as_text

READY_WITHIN_S = 60
READY_WORDS = "the rest is in"


def free_ports(count):
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


@contextmanager
def platform_environment() -> Iterator[dict[str, str]]:
    """Settings for a small platform in a temporary folder."""
    http, issuer, institution, sms, wechat, alipay = free_ports(6)
    with tempfile.TemporaryDirectory(prefix="quanhui-run-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QUANHUI_")}
        yield {
            **kept,
            "QUANHUI_DATA_DIR": f"{folder}/var",
            "QUANHUI_HTTP_PORT": str(http),
            "QUANHUI_PUBLIC_BASE_URL": f"http://127.0.0.1:{http}",
            "QUANHUI_HTTP_WORKERS": "1",
            "QUANHUI_ISSUER_URL": f"http://127.0.0.1:{issuer}",
            "QUANHUI_INSTITUTION_URL": f"http://127.0.0.1:{institution}",
            "QUANHUI_SMS_URL": f"http://127.0.0.1:{sms}",
            "QUANHUI_WECHAT": _moved("wechat", wechat),
            "QUANHUI_ALIPAY": _moved("alipay", alipay),
            "QUANHUI_SAMPLE_STORES": "10",
            "QUANHUI_SAMPLE_CUSTOMERS": "20",
            "QUANHUI_SAMPLE_VOUCHERS": "200",
        }


def _moved(channel: str, port: int) -> str:
    """The account of development, at a sandbox on another port."""
    return as_text(msgspec.structs.replace(channel_accounts()[channel], url=f"http://127.0.0.1:{port}"))


def quanhui(environment, *arguments, **options):
    """Start one command of the platform."""
    return subprocess.Popen(
        [sys.executable, "-m", "quanhui", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def wait_for(process, words):
    """Read what a process prints until some words come; returns all of it."""
    lines = []
    deadline = time.monotonic() + READY_WITHIN_S
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
        assert time.monotonic() < deadline, "".join(lines)
    raise AssertionError("it ended: " + "".join(lines))
