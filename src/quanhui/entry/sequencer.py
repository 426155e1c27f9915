"""The one process that puts events into the transparency log and signs checkpoints."""

import asyncio
import signal

import uvloop

from quanhui.base import clock
from quanhui.base.db import open_pool
from quanhui.entry.settings import Settings
from quanhui.evidence import Signer, run_sequencer


def signer_of(settings: Settings) -> Signer:
    """The signer; its memory of what it signed lies outside the database, which may be restored."""
    state_file = settings.data_dir / "signer-state.json"
    return Signer(origin=settings.evidence_origin, seed=settings.evidence_seed, state_file=state_file)


def run(settings: Settings) -> None:
    """Sequence until SIGTERM or SIGINT. Several may run; one leads."""
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    assert settings.database_url
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pool = await open_pool(settings.database_url, size=3, application_name="quanhui-sequencer")
    try:
        signer = signer_of(settings)
        await run_sequencer(pool, signer, stop, log_key=settings.log_key, clock=clock.now)
    finally:
        await pool.close()
