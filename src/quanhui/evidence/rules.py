"""Events, their canonical bytes, and the leaf that commits to one without showing it.

Canonical payload: JSON in UTF-8 without spaces, keys sorted, values restricted to printable text, integers
within ±(2^53−1), booleans and, for `facts`, one object of these. Within those limits it equals RFC 8785.

Leaf, 93 bytes, all that the public ever sees of an event:

    1   version, 0x01
    24  kind, ASCII, padded with zeros
    4   hours since 1970-01-01T00:00Z, big-endian
    32  blinded tag: HMAC-SHA256(HMAC-SHA256(log key, "voucher/v1" ‖ voucher id), sequence as 8 bytes)
    32  commitment: SHA-256("leaf/v1" ‖ salt ‖ canonical payload)

The payload holds the leaf hash of the voucher's previous event, so that a path is a chain; the tag is
different for each event, so that outsiders cannot link one event of a voucher to the next.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

import msgspec

from quanhui.base.clock import require_aware
from quanhui.evidence.tree import leaf_hash

Fact: TypeAlias = str | int | bool

LEAF_VERSION = b"\x01"
KIND_BYTES = 24
SALT_BYTES = 32
KEY_BYTES = 32
SECONDS_PER_HOUR = 3600
SAFE_INTEGER = 2**53 - 1
LONGEST_TEXT = 200
MOST_FACTS = 32
_WORD = re.compile(r"[a-z][a-z0-9_]{0,23}", re.ASCII)


class Event(msgspec.Struct, frozen=True):
    """One change of a voucher's path.

    `kind` is a past participle such as `claimed`; `subject` the order, purchase or redemption it belongs
    to. `facts` never hold a code or personal data: whoever holds the receipt reads them.
    """

    voucher_id: str
    kind: str
    subject: str
    facts: Mapping[str, Fact] = {}


class RecordedEvent(msgspec.Struct, frozen=True):
    """An event as the log has it. `leaf_index` and `sequence` are None while it waits for the tree."""

    voucher_id: str
    kind: str
    subject: str
    facts: dict[str, Fact]
    at: datetime
    sequence: int | None
    leaf_index: int | None


class Payload(msgspec.Struct, frozen=True):
    """What a leaf commits to. The fields stand in the order of their names: that is the canonical order."""

    at: str
    facts: msgspec.Raw
    kind: str
    prev: str
    sequence: int
    subject: str
    voucher_id: str


class Waiting(NamedTuple):
    """A queued event: its payload lacks `prev` and `sequence`, which are known only in the tree."""

    voucher_id: str
    subject: str
    payload: str


class Tip(NamedTuple):
    """The newest event of a voucher in the tree."""

    sequence: int
    hash: bytes


class Leaf(NamedTuple):
    """A leaf as it is hashed, and what opens it; the fields are columns of `evidence.leaf`."""

    leaf_index: int
    body: bytes
    voucher_id: str
    sequence: int
    subject: str
    payload: str
    salt: bytes


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Payload)


def draft(event: Event, at: str) -> str:
    """The payload of an event before it has a place in the tree; `at` comes from `instant`.

    Raises `ValueError` for a kind, subject or fact that the canonical form does not allow.
    """
    if not _WORD.fullmatch(event.kind):
        raise ValueError(f"not a kind of event: {event.kind!r}")
    if len(event.facts) > MOST_FACTS:
        raise ValueError(f"an event carries at most {MOST_FACTS} facts")
    for name, value in event.facts.items():
        _check_fact(name, value)
    _check_fact("subject", event.subject)
    _check_fact("voucher_id", event.voucher_id)
    facts = msgspec.Raw(_encoder.encode(event.facts))
    return _encoder.encode(Payload(at, facts, event.kind, "", 0, event.subject, event.voucher_id)).decode()


def instant(at: datetime) -> str:
    """An instant in the one form payloads use: UTC with microseconds and `Z`."""
    return require_aware(at).astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def chain(
    waiting: Sequence[Waiting], tips: Mapping[str, Tip], *, log_key: bytes, salts: bytes, first_index: int
) -> tuple[list[Leaf], list[bytes]]:
    """Give events their places: leaves from `first_index` on, each tied to its voucher's event before.

    `salts` holds 32 random bytes for each event, end to end. Returns the leaves and their hashes.
    """
    assert len(salts) == len(waiting) * SALT_BYTES
    tips = dict(tips)
    leaves, hashes = [], []
    for position, (voucher_id, subject, drafted) in enumerate(waiting):
        tip = tips.get(voucher_id)
        sequence = tip.sequence + 1 if tip else 1
        known = _decoder.decode(drafted)
        payload = _encoder.encode(
            Payload(
                known.at,
                known.facts,
                known.kind,
                tip.hash.hex() if tip else "",
                sequence,
                subject,
                voucher_id,
            )
        )
        salt = salts[position * SALT_BYTES : (position + 1) * SALT_BYTES]
        leaf = _leaf(known, payload, salt=salt, tag=blinded_tag(log_key, voucher_id, sequence))
        digest = leaf_hash(leaf)
        tips[voucher_id] = Tip(sequence, digest)
        hashes.append(digest)
        leaves.append(
            Leaf(first_index + position, leaf, voucher_id, sequence, subject, payload.decode(), salt)
        )
    return leaves, hashes


def blinded_tag(log_key: bytes, voucher_id: str, sequence: int) -> bytes:
    """A mark by which only holders of the key find a voucher's events; 32 bytes."""
    voucher_key = hmac.digest(log_key, b"voucher/v1" + voucher_id.encode(), "sha256")
    return hmac.digest(voucher_key, sequence.to_bytes(8, "big"), "sha256")


def tag_of(leaf: bytes) -> bytes:
    """The blinded tag inside a leaf."""
    return leaf[-64:-32]


def recorded(payload: str, leaf_index: int | None) -> RecordedEvent:
    """Read a stored payload back."""
    known = _decoder.decode(payload)
    return RecordedEvent(
        known.voucher_id,
        known.kind,
        known.subject,
        msgspec.json.decode(known.facts, type=dict[str, Fact]),
        datetime.fromisoformat(known.at),
        known.sequence or None,
        leaf_index,
    )


def vouchers_of(waiting: Iterable[Waiting]) -> list[str]:
    """The vouchers that a batch is about, each once, sorted."""
    return sorted({each.voucher_id for each in waiting})


def _leaf(known: Payload, payload: bytes, *, salt: bytes, tag: bytes) -> bytes:
    hours = int(datetime.fromisoformat(known.at).timestamp()) // SECONDS_PER_HOUR
    commitment = hashlib.sha256(b"leaf/v1" + salt + payload).digest()
    kind = known.kind.encode().ljust(KIND_BYTES, b"\0")
    return LEAF_VERSION + kind + hours.to_bytes(4, "big") + tag + commitment


def _check_fact(name: str, value: object) -> None:
    if not _WORD.fullmatch(name):
        raise ValueError(f"not a name of a fact: {name!r}")
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT or not value.isprintable():
            raise ValueError(f"{name}: a text must be printable and at most {LONGEST_TEXT} characters")
    elif not isinstance(value, int) or abs(value) > SAFE_INTEGER:
        raise ValueError(f"{name}: a fact is a text, a boolean, or an integer within ±(2^53−1)")
