"""Runs a simulation on an embedded database of its own, which is gone afterwards."""

import secrets
import tempfile
from pathlib import Path

from quanhui.base.db import open_pool, transaction
from quanhui.base.keyring import Keyring
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.simulation import Outcome, simulate


async def run_settlement(*, payouts: int, seed: int) -> Outcome:
    """Start a server in a temporary folder, live through the payouts, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="quanhui-simulate-", ignore_cleanup_errors=True) as folder:
        server = _server(Path(folder))
        server.start()
        try:
            pool = await open_pool(server.url, size=4, application_name="quanhui-simulate")
            try:
                async with transaction(pool) as db:
                    await migrate(db)
                keyring = Keyring({1: secrets.token_bytes(32)}, secrets.token_bytes(32))
                return await simulate(pool, keyring, payouts=payouts, seed=seed)
            finally:
                await pool.close()
        finally:
            server.stop()


def _server(folder: Path) -> EmbeddedPostgres:
    """The server runs as another user, who must be able to enter."""
    folder.chmod(0o755)
    return EmbeddedPostgres(folder)
