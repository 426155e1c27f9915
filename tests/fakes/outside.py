"""The outside parties for tests and benches: each sandbox a process of its own, on a port of its own.

bank = start_sandbox("institution", tmp_path)
bank.fault("lost_reply", next_n=1, delay_s=2)
...
bank.kill()      # as by kill -9
bank = bank.start_again()
"""

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

SECRET = b"a secret for tests, shared with an outside party"
CALLBACK_SECRET = b"a secret for tests, for callbacks only"
START_TIMEOUT_S = 20


@dataclass
class Sandbox:
    """A running sandbox. `call` reaches its control API."""

    kind: str
    url: str
    state_dir: Path
    arguments: Sequence[str]
    process: subprocess.Popen[bytes]
    secret: bytes = field(default=SECRET, repr=False)
    callback_secret: bytes = field(default=CALLBACK_SECRET, repr=False)

    def call(self, path: str, body: object = None, *, method: str | None = None) -> Any:
        """A control request: POST with a body, GET without. Raises `urllib.error.HTTPError`."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        if data is not None:
            request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as response:
            raw = response.read()
        return json.loads(raw) if raw else None

    def fault(self, kind: str, **settings: Any) -> None:
        """Add a line to the fault table."""
        self.call("/control/faults", {"kind": kind, **settings})

    def behave(self) -> None:
        """Empty the fault table."""
        self.call("/control/faults", method="DELETE")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """However a test ends, its parties end with it."""
        self.kill()

    def stop(self) -> int:
        """End it gracefully; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def kill(self) -> None:
        """End it as a power cut would end the process."""
        self.process.kill()
        self.process.wait(10)

    def start_again(self) -> "Sandbox":
        """The same party with the same books at the same address."""
        port = int(self.url.rsplit(":", 1)[1])
        return _start(self.kind, self.state_dir, port, self.arguments)


def start_sandbox(
    kind: str,
    tmp_path: Path,
    *,
    seed_file: Path | None = None,
    callback_url: str | None = None,
    settle_s: float | None = None,
    seed: int = 0,
) -> Sandbox:
    """Start issuer, institution or sms, and wait until it answers. The caller stops it."""
    options = {"--seed-file": seed_file, "--callback-url": callback_url, "--settle": settle_s, "--seed": seed}
    arguments = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    return _start(kind, tmp_path / kind, free_port(), arguments)


def _start(kind: str, state_dir: Path, port: int, arguments: Sequence[str]) -> Sandbox:
    command = [
        sys.executable, "-W", "error", "-m", "quanhui.sandboxes", kind,
        "--port", str(port), "--state", str(state_dir), *arguments,
    ]  # fmt: skip
    secret = base64.b64encode(SECRET).decode()
    environment = {
        **os.environ,
        f"QUANHUI_{kind.upper()}_SECRET": secret,
        "QUANHUI_CALLBACK_SECRET": base64.b64encode(CALLBACK_SECRET).decode(),
    }
    log_file = state_dir.with_suffix(".log")
    state_dir.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    sandbox = Sandbox(kind, f"http://127.0.0.1:{port}", state_dir, arguments, process)
    until_it_answers(sandbox, log_file)
    return sandbox


def until_it_answers(sandbox: Sandbox, log_file: Path) -> None:
    """Wait for a sandbox that was just started. Raises `RuntimeError` with its log when it does not come."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and sandbox.process.poll() is None:
        try:
            sandbox.call("/control/health")
        except OSError:
            time.sleep(0.02)
        else:
            return
    sandbox.process.kill()
    sandbox.process.wait()
    raise RuntimeError(f"the {sandbox.kind} sandbox did not start:\n{log_file.read_text()}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class CallbackReceiver:
    """Takes callbacks and keeps them as they came. Answers `status`."""

    url: str = ""
    status: int = 200
    answer: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((headers, await request.read()))
        return web.Response(status=self.status, text=self.answer)

    def events(self) -> list[dict[str, Any]]:
        """Every event received so far, in order, whoever signed it."""
        return [event for _, body in self.requests for event in json.loads(body)["events"]]


@asynccontextmanager
async def receive_callbacks():
    """A listening `CallbackReceiver`."""
    receiver = CallbackReceiver()
    app = web.Application()
    app.router.add_post("/callbacks", receiver.take)
    async with _listening(app) as url:
        receiver.url = f"{url}/callbacks"
        yield receiver


@asynccontextmanager
async def answering(status: int, body: object):
    """The address of a party that answers everything with the same words; `body` may be raw bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=raw)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with _listening(app) as url:
        yield url


@asynccontextmanager
async def _listening(app: web.Application):
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def until(happened: Callable[[], Any], *, timeout_s: float = 5.0) -> Any:
    """Wait until `happened` returns something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := happened():
            return result
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen in time")


@asynccontextmanager
async def http_client():
    """A client session, closed in the end."""
    async with aiohttp.ClientSession() as http:
        yield http
