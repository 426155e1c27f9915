"""Verbs of the evidence log: record, prove, give receipts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.evidence import store
from quanhui.evidence.errors import BeyondCheckpoint, ReceiptNotReady, ReceiptTooLarge
from quanhui.evidence.rules import Event, RecordedEvent, draft, instant, recorded, tag_of
from quanhui.evidence.signer import Checkpoint
from quanhui.evidence.tree import consistency_ranges, inclusion_ranges

RECEIPT_FORMAT = "quanhui-receipt/v1"
RECEIPT_EVENTS = 500
PATH_EVENTS = 1000
_EXAMPLE_EVENT = {
    "leaf_index": 0,
    "payload": {"kind": "voucher.registered", "at": "2026-11-22T04:00:00.000000Z"},
    "salt": "5f" * 32,
    "tag": "c4" * 32,
    "proof": [],
}


class ReceiptEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event, opened: with payload, salt and tag anyone rebuilds the leaf; `proof` leads to the root.

    `salt`, `tag` and the hashes of `proof` are lower-case hex of 32 bytes.
    """

    leaf_index: int
    payload: dict[str, Any]
    salt: str
    tag: str
    proof: list[str]


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person keeps: proof of each step that holds without asking this platform again.

    It has no field that the signature does not cover, so a receipt changed anywhere does not verify.
    """

    format: Annotated[str, Meta(examples=[RECEIPT_FORMAT])]
    verifier_key: Annotated[str, Meta(examples=["example.com/quanhui+7a1d2c90+AVUwhbJQlUBrdVtBZbV5Bn7A…"])]
    checkpoint: Annotated[
        str, Meta(examples=["example.com/quanhui\n1\nqJrc2Zl4…=\n\n— example.com/quanhui eh0skL…=\n"])
    ]
    events: Annotated[list[ReceiptEvent], Meta(examples=[[_EXAMPLE_EVENT]])]


async def record(db: Db, events: Sequence[Event], *, now: datetime) -> None:
    """Record changes of vouchers' paths in the caller's transaction, which holds the vouchers' row locks.

    One round trip. Raises `ValueError` for a fact that the canonical form does not allow.
    """
    if not events:
        return
    at = instant(now)
    await store.queries.record(
        db,
        voucher_ids=[event.voucher_id for event in events],
        subjects=[event.subject for event in events],
        payloads=[draft(event, at) for event in events],
    )


async def path_of(db: Db, voucher_id: str) -> list[RecordedEvent]:
    """What happened to a voucher, oldest first, up to 1,000 events; those not in the tree yet come last."""
    rows = await store.queries.find_events(db, subjects=[], voucher_ids=[voucher_id], limit=PATH_EVENTS)
    return [recorded(row["payload"], row["leaf_index"]) for row in rows]


async def latest_checkpoint(db: Db) -> Checkpoint | None:
    """The newest signed tree head, or None before the sequencer first ran."""
    return await store.latest_checkpoint(db)


async def inclusion_proof(db: Db, leaf_index: int, tree_size: int) -> list[bytes]:
    """Hashes, leaf to root, that prove a leaf to be in the tree of that size; `BeyondCheckpoint`."""
    if not 0 <= leaf_index < tree_size <= await _signed_size(db):
        raise BeyondCheckpoint
    (proof,) = await store.find_hashes(db, [inclusion_ranges(leaf_index, tree_size)])
    return proof


async def consistency_proof(db: Db, first: int, second: int) -> list[bytes]:
    """Hashes that prove the tree of size `second` to begin with that of `first`; `BeyondCheckpoint`."""
    if not 0 < first <= second <= await _signed_size(db):
        raise BeyondCheckpoint
    (proof,) = await store.find_hashes(db, [consistency_ranges(first, second)])
    return proof


async def receipt(db: Db, subjects: Sequence[str]) -> Receipt:
    """The receipt of orders, purchases or redemptions: every event they caused, up to 500.

    Raises `NotFound` when there is none, `ReceiptNotReady` until the newest is under a signed checkpoint,
    `ReceiptTooLarge`. Whoever calls has made sure that the reader may see these subjects.
    """
    return await _receipt(db, subjects=subjects, voucher_ids=[])


async def voucher_receipt(db: Db, voucher_id: str) -> Receipt:
    """The receipt of one voucher's whole path, for its issuer, an auditor or a court; raises as `receipt`."""
    return await _receipt(db, subjects=[], voucher_ids=[voucher_id])


async def _receipt(db: Db, *, subjects: Sequence[str], voucher_ids: Sequence[str]) -> Receipt:
    rows = await store.queries.find_events(
        db, subjects=subjects, voucher_ids=voucher_ids, limit=RECEIPT_EVENTS + 1
    )
    if not rows:
        raise NotFound
    if len(rows) > RECEIPT_EVENTS:
        raise ReceiptTooLarge(limit=RECEIPT_EVENTS)
    signed = await latest_checkpoint(db)
    newest = rows[-1]["leaf_index"]
    if signed is None or newest is None or newest >= signed.size:
        raise ReceiptNotReady(retry_after_s=1)
    proofs = await store.find_hashes(db, [inclusion_ranges(row["leaf_index"], signed.size) for row in rows])
    return Receipt(
        format=RECEIPT_FORMAT,
        verifier_key=signed.verifier_key,
        checkpoint=signed.note,
        events=[
            ReceiptEvent(
                leaf_index=row["leaf_index"],
                payload=msgspec.json.decode(row["payload"]),
                salt=row["salt"].hex(),
                tag=tag_of(row["body"]).hex(),
                proof=[each.hex() for each in proof],
            )
            for row, proof in zip(rows, proofs, strict=True)
        ],
    )


async def _signed_size(db: Db) -> int:
    signed = await latest_checkpoint(db)
    return signed.size if signed else 0
