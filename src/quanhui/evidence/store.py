"""Rows of the evidence log ↔ its types."""

from collections.abc import Iterable, Sequence
from typing import Any

from quanhui.base.db import Db, Row, load_queries
from quanhui.evidence.rules import Leaf, Tip, Waiting, vouchers_of
from quanhui.evidence.signer import Checkpoint, TreeHead
from quanhui.evidence.tree import Range, TileKey, Tiles, leaf_hash, range_hash, tile_keys

queries: Any = load_queries(__file__)


async def lock_head(db: Db) -> TreeHead | None:
    """The head, locked until commit; None while another sequencer holds it."""
    row = await queries.lock_head(db)
    return TreeHead(row["size"], row["root"]) if row else None


async def take_pending(db: Db, *, limit: int) -> list[Waiting]:
    """Remove the oldest queued events, in the order they were written."""
    rows = await queries.take_pending(db, limit=limit)
    rows.sort(key=_written)
    return [Waiting(row["voucher_id"], row["subject"], row["payload"]) for row in rows]


async def find_tips(db: Db, waiting: Sequence[Waiting]) -> dict[str, Tip]:
    """The newest leaf of each voucher that these events are about."""
    rows = await queries.find_tips(db, voucher_ids=vouchers_of(waiting))
    return {row["voucher_id"]: Tip(row["sequence"], leaf_hash(row["body"])) for row in rows}


async def add_leaves(db: Db, leaves: Sequence[Leaf]) -> None:
    """Write leaves by COPY."""
    await db.copy_records_to_table("leaf", schema_name="evidence", records=leaves, columns=Leaf._fields)


async def find_tiles(db: Db, keys: Iterable[TileKey]) -> Tiles:
    """Tiles by key, in one query."""
    wanted = sorted(keys)
    if not wanted:
        return {}
    levels, indexes = zip(*wanted, strict=True)
    rows = await queries.find_tiles(db, levels=levels, indexes=indexes)
    return {(row["level"], row["index"]): row["hashes"] for row in rows}


async def put_tiles(db: Db, tiles: Tiles) -> None:
    """Write new tiles and replace grown ones."""
    levels, indexes = zip(*tiles, strict=True)
    await queries.put_tiles(db, levels=levels, indexes=indexes, hashes=list(tiles.values()))


async def find_hashes(db: Db, proofs: Sequence[Sequence[Range]]) -> list[list[bytes]]:
    """The hashes of each proof's subtrees; all tiles are read in one query."""
    tiles = await find_tiles(db, tile_keys(each for proof in proofs for each in proof))
    return [[range_hash(tiles, each) for each in proof] for proof in proofs]


async def latest_checkpoint(db: Db) -> Checkpoint | None:
    """The newest signed head, or None before the first."""
    row = await queries.latest_checkpoint(db)
    return Checkpoint(**dict(row)) if row else None


def _written(row: Row) -> int:
    position: int = row["id"]
    return position
