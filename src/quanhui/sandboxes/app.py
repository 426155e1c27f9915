"""What every sandbox has: a control API for faults, its answers to refusals, a server of its own."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, Request, Response, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler

from quanhui.sandboxes.edge import Edge
from quanhui.sandboxes.faults import Fault, FaultTable
from quanhui.sandboxes.store import Refusal

Faults = NamedDependency[FaultTable]


@get("/control/health")
async def health() -> dict[str, str]:
    """The process listens."""
    return {"state": "ready"}


@post("/control/faults", status_code=201)
async def add_fault(faults: Faults, data: JSONBody[Fault]) -> Fault:
    """Add a line to the fault table."""
    faults.add(data)
    return data


@get("/control/faults")
async def list_faults(faults: Faults) -> list[Fault]:
    """The lines that may still strike."""
    return faults.lines()


@delete("/control/faults")
async def clear_faults(faults: Faults) -> None:
    """Empty the fault table."""
    faults.clear()


def build_app(handlers: Sequence[ControllerRouterHandler], *, party: object, faults: FaultTable) -> Litestar:
    """The HTTP side of a sandbox; `party` is injected into its handlers by that name."""
    return Litestar(
        [health, add_fault, list_faults, clear_faults, *handlers],
        dependencies={"faults": _given(faults), "party": _given(party)},
        exception_handlers={Refusal: _refused},
        openapi_config=None,
        logging_config=None,
    )


async def serve(
    app: Litestar,
    *,
    host: str,
    port: int,
    secret: bytes,
    faults: FaultTable,
    chores: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
) -> None:
    """Serve until SIGTERM or SIGINT; `chores` are loops that run meanwhile and are cancelled at the end.

    A chore that fails takes the server down with it.
    """
    stopping = asyncio.Event()
    server = Server(
        Edge(app, secret=secret, faults=faults, stopping=stopping),
        host,
        port,
        interface=Interfaces.ASGI,
        websockets=False,
        log_enabled=False,
    )

    def stop() -> None:
        stopping.set()
        server.stop()  # type: ignore[no-untyped-call]

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with _running(chores, on_failure=stop):
        await server.serve()


@contextlib.asynccontextmanager
async def _running(
    chores: Sequence[Callable[[], Coroutine[Any, Any, None]]], *, on_failure: Callable[[], None]
) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(chore()) for chore in chores]
    for task in tasks:
        task.add_done_callback(lambda done: None if done.cancelled() else on_failure())
    yield
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def _given(value: object) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


def _refused(_request: Request[Any, Any, Any], refusal: Refusal) -> Response[dict[str, str]]:
    return Response({"code": refusal.code}, status_code=refusal.status)
