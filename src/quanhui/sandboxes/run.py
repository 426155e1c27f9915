"""Starts one sandbox and serves until it is told to stop."""

from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from litestar.types import ControllerRouterHandler

from quanhui.sandboxes import institution_routes, issuer, sms
from quanhui.sandboxes.app import build_app, serve
from quanhui.sandboxes.callbacks import Sender, StandardWire
from quanhui.sandboxes.faults import FaultTable
from quanhui.sandboxes.institution import Institution

Chore = Callable[[], Coroutine[Any, Any, None]]


class SandboxKind(StrEnum):
    """Which outside party to play."""

    ISSUER = "issuer"
    INSTITUTION = "institution"
    SMS = "sms"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to play it. `settle_s` is how long the institution takes; `seed` decides the faults' dice."""

    seed: int = 0
    seed_file: Path | None = None
    settle_s: float = 0.05
    callback_secret: bytes = b""
    callback_url: str | None = None


def run_sandbox(
    kind: SandboxKind, *, host: str, port: int, state_dir: Path, secret: bytes, options: Options
) -> None:
    """Serve until SIGTERM or SIGINT. `secret` is shared with the platform; `state_dir` keeps the books."""
    faults = FaultTable(options.seed)
    party, handlers, chores = _open(kind, state_dir, faults, options)
    app = build_app(handlers, party=party, faults=faults)
    uvloop.run(serve(app, host=host, port=port, secret=secret, faults=faults, chores=chores))


def _open(
    kind: SandboxKind, state_dir: Path, faults: FaultTable, options: Options
) -> tuple[object, Sequence[ControllerRouterHandler], Sequence[Chore]]:
    match kind:
        case SandboxKind.ISSUER:
            books = issuer.Issuer(state_dir, faults)
            if options.seed_file is not None:
                with options.seed_file.open("rb") as lines:
                    books.load(lines)
            return books, issuer.handlers, []
        case SandboxKind.INSTITUTION:
            bank = Institution(
                state_dir, faults, settle_s=options.settle_s, callback_url=options.callback_url
            )
            sender = Sender(bank.store, faults, StandardWire(options.callback_secret))
            return bank, institution_routes.handlers, [bank.run, sender.run]
        case SandboxKind.SMS:
            return sms.Gateway(state_dir), sms.handlers, []
