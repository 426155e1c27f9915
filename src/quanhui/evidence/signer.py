"""Checkpoints: a tree head as a C2SP signed note, and the signer that never tells two stories.

    example.com/quanhui               the origin: whose log
    1734                              how many leaves
    rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja…=  the root over them

    — example.com/quanhui M9e0luh4jTG+UMBq…=

Forms: https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint.
"""

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from quanhui.evidence.tree import is_consistent

ED25519 = b"\x01"
SEED_BYTES = 32
KEY_HASH_BYTES = 4
_ORIGIN = re.compile(r"[^\s+]{1,128}")


class TreeHead(msgspec.Struct, frozen=True):
    """How many leaves, and the root over them."""

    size: int
    root: bytes


class Checkpoint(msgspec.Struct, frozen=True):
    """A signed tree head: the note as anyone may check it, and the key to check it with."""

    size: int
    root: bytes
    note: str
    verifier_key: str
    signed_at: datetime

    @property
    def head(self) -> TreeHead:
        """What the note signs."""
        return TreeHead(self.size, self.root)


class SignerRefuses(Exception):
    """The tree is not a continuation of what was signed before: a restored backup, or tampering.

    Nothing more is signed until a person has found out which.
    """


class Signer:
    """Signs tree heads of one log with Ed25519, each only if it extends the one signed before.

    `seed` is 32 bytes. `state_file`, on storage that is not restored together with the database, makes
    the memory outlive the process; without it a fresh signer starts from the newest checkpoint in the
    database, and cannot notice that an older backup was put in place while it was down.
    """

    def __init__(self, *, origin: str, seed: bytes, state_file: Path | None = None) -> None:
        if len(seed) != SEED_BYTES or not _ORIGIN.fullmatch(origin):
            raise ValueError(f"a signer needs a seed of {SEED_BYTES} bytes and an origin without spaces or +")
        self.origin = origin
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = ED25519 + self._key.public_key().public_bytes_raw()
        self._key_hash = hashlib.sha256(origin.encode() + b"\n" + public).digest()[:KEY_HASH_BYTES]
        self.verifier_key = f"{origin}+{self._key_hash.hex()}+{base64.b64encode(public).decode()}"
        self._state_file = state_file
        self.last = _read_state(state_file) if state_file else None

    def __repr__(self) -> str:
        return f"Signer({self.verifier_key})"

    def start_from(self, signed: TreeHead) -> None:
        """Take over what an earlier process signed; one's own memory goes first."""
        if self.last is None:
            self.last = signed

    def sign(self, head: TreeHead, proof: Sequence[bytes] = ()) -> str:
        """Sign a head, given the consistency proof from `last`; raises `SignerRefuses`.

        The state file is on disk before the signature exists.
        """
        if not self._extends(head, proof):
            raise SignerRefuses(f"signed up to {self.last}, asked to sign {head}")
        if self._state_file and head != self.last:
            _write_state(self._state_file, head)
        self.last = head
        return self.sign_note(checkpoint_text(self.origin, head))

    def sign_note(self, text: str) -> str:
        """Any text as a signed note; `text` ends with a newline."""
        signature = base64.b64encode(self._key_hash + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.origin} {signature}\n"

    def _extends(self, head: TreeHead, proof: Sequence[bytes]) -> bool:
        last = self.last
        if last is None or last == head:
            return True
        if last.size == 0:
            return head.size > 0
        return is_consistent(
            first=last.size, first_root=last.root, second=head.size, second_root=head.root, proof=proof
        )


def checkpoint_text(origin: str, head: TreeHead) -> str:
    """The signed part of a checkpoint."""
    return f"{origin}\n{head.size}\n{base64.b64encode(head.root).decode()}\n"


def _read_state(file: Path) -> TreeHead | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=TreeHead)
    except FileNotFoundError:
        return None


def _write_state(file: Path, head: TreeHead) -> None:
    """Replace the file whole: a crash leaves the old state or the new one, both on disk."""
    fresh = file.with_suffix(".new")
    with fresh.open("wb") as out:
        out.write(msgspec.json.encode(head))
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
