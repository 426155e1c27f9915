"""Numbered SQL files are the only way the schema changes. Each runs once, in order, in one transaction.

An advisory lock lets several processes start together: one migrates, the others wait and find it done. A
file that was changed after it ran is refused, because two databases would then differ under one number.
"""

import hashlib
from pathlib import Path

from quanhui.base.db import Db

LOCK = 7_215_001
_PACKAGED = Path(__file__).parents[1] / "migrations"
FOLDER = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "migrations"


class MigrationChangedError(RuntimeError):
    """A migration that already ran here is not the file it was."""


def migration_files(folder: Path = FOLDER) -> list[Path]:
    """All migrations in order. Raises `ValueError` when the numbers have a gap or a double."""
    files = sorted(folder.glob("[0-9]*.sql"))
    numbers = [int(file.name.split("_")[0]) for file in files]
    if numbers != list(range(1, len(files) + 1)):
        raise ValueError(f"migrations are not numbered 1…{len(files)}: {numbers}")
    return files


async def migrate(db: Db, folder: Path = FOLDER) -> list[str]:
    """Apply what is missing; returns the names applied now."""
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        await db.execute(
            "CREATE TABLE IF NOT EXISTS public.migration ("
            "name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await db.fetch("SELECT name, sha256 FROM public.migration")
        done = {row["name"]: row["sha256"] for row in rows}
        applied = []
        for file in migration_files(folder):
            sql = file.read_text()
            digest = hashlib.sha256(sql.encode()).hexdigest()
            if file.name in done:
                if done[file.name] != digest:
                    raise MigrationChangedError(file.name)
                continue
            await db.execute(sql)
            await db.execute("INSERT INTO public.migration (name, sha256) VALUES ($1, $2)", file.name, digest)
            applied.append(file.name)
    return applied
