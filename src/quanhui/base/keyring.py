"""Secrets at rest: codes, phone numbers and payee accounts are sealed; lookups go by keyed HMAC.

Sealing is AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce and a context bound in as associated
data, so that a sealed value copied to another row does not open there. Keys have versions: the highest
seals, all of them open, and rotation seals old values anew. The fingerprint key has no versions,
because a fingerprint is an identity: see docs/adr/0007.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
KEY_BYTES = 32


class Sealed(msgspec.Struct, frozen=True):
    """A sealed value: nonce and ciphertext in one, with the version of the key that sealed it."""

    key_version: int
    box: bytes


class CannotOpen(Exception):
    """The value was altered, belongs to another context, or its key is gone. Never says more."""


class Keyring:
    """Seals and opens values, and computes fingerprints.

    `sealing_keys` maps version → 32 bytes; `fingerprint_key` is 32 bytes. Raises `ValueError` on a key
    of another length or an empty ring.
    """

    def __init__(self, sealing_keys: Mapping[int, bytes], fingerprint_key: bytes) -> None:
        keys = [*sealing_keys.values(), fingerprint_key]
        if not sealing_keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a keyring needs keys of {KEY_BYTES} bytes")
        self._boxes = {version: AESGCM(key) for version, key in sealing_keys.items()}
        self._fingerprint_key = fingerprint_key
        self.newest_version = max(sealing_keys)

    def __repr__(self) -> str:
        return f"Keyring(versions={sorted(self._boxes)})"

    def seal(self, plain: str, *, context: str) -> Sealed:
        """Encrypt a text under the newest key, bound to its context (for example a voucher id)."""
        nonce = os.urandom(NONCE_BYTES)
        box = self._boxes[self.newest_version].encrypt(nonce, plain.encode(), context.encode())
        return Sealed(self.newest_version, nonce + box)

    def open(self, sealed: Sealed, *, context: str) -> str:
        """Decrypt; raises `CannotOpen` for an altered value, another context or an unknown key."""
        box = self._boxes.get(sealed.key_version)
        if box is None:
            raise CannotOpen
        try:
            plain = box.decrypt(sealed.box[:NONCE_BYTES], sealed.box[NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError) as error:
            raise CannotOpen from error
        return plain.decode()

    def fingerprint(self, *parts: str) -> bytes:
        """A keyed 32-byte HMAC-SHA256 of the parts, each length-prefixed so that they cannot run together."""
        mac = hmac.new(self._fingerprint_key, digestmod=hashlib.sha256)
        for part in parts:
            encoded = part.encode()
            mac.update(len(encoded).to_bytes(4, "big") + encoded)
        return mac.digest()
