"""The evidence log 存证: what happened to each voucher, provable to anyone, alterable by no one.

Every verb that changes a voucher's path calls `record` in the same transaction. A sequencer moves the
committed events into an append-only Merkle tree, each tied to the voucher's event before, and signs the
root: the checkpoint 存证检查点. From then on a change to any event, or a second version of the past, is
visible to whoever kept a checkpoint or a receipt.

The public sees only leaves: a kind, an hour, a blinded tag and a salted commitment, never a code and
never a person. Whoever holds a receipt sees their own events in full and can prove them with
`quanhui.verifier`, a single file that shares no code with this package, without asking us.
"""

from quanhui.evidence.actions import (
    Receipt,
    ReceiptEvent,
    consistency_proof,
    inclusion_proof,
    latest_checkpoint,
    path_of,
    receipt,
    record,
    voucher_receipt,
)
from quanhui.evidence.errors import BeyondCheckpoint, ReceiptNotReady, ReceiptTooLarge
from quanhui.evidence.rules import Event, RecordedEvent
from quanhui.evidence.signer import Checkpoint, Signer, SignerRefuses, TreeHead
from quanhui.evidence.tasks import run_sequencer, sequence_once

__all__ = [
    "BeyondCheckpoint",
    "Checkpoint",
    "Event",
    "Receipt",
    "ReceiptEvent",
    "ReceiptNotReady",
    "ReceiptTooLarge",
    "RecordedEvent",
    "Signer",
    "SignerRefuses",
    "TreeHead",
    "consistency_proof",
    "inclusion_proof",
    "latest_checkpoint",
    "path_of",
    "receipt",
    "record",
    "run_sequencer",
    "sequence_once",
    "voucher_receipt",
]
