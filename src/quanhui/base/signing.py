"""Signed requests between parties who share a secret: partners, sandboxes, callbacks.

The form is Standard Webhooks (https://www.standardwebhooks.com): `id.timestamp.body` under HMAC-SHA256, in
the headers `webhook-id`, `webhook-timestamp` and `webhook-signature: v1,<base64>`. For requests
the method and path go first, so that a signature fits one call only.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

MAX_AGE = timedelta(minutes=5)


class BadSignature(Exception):
    """The signature is missing, wrong, or too old. Never says which."""


def sign(secret: bytes, *, id: str, now: datetime, body: bytes, target: str = "") -> dict[str, str]:  # noqa: A002
    """Headers that prove who sent this body, when. `target` is e.g. `POST /v1/lock` for a request."""
    timestamp = str(int(now.timestamp()))
    return {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + _mac(secret, id, timestamp, target, body),
    }


def verify(secret: bytes, headers: Mapping[str, str], *, now: datetime, body: bytes, target: str = "") -> str:
    """Check signature and age; returns the message id, to be used once. Raises `BadSignature`."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "")
    if not message_id or not timestamp.isdecimal() or len(timestamp) > len("9999999999"):
        raise BadSignature
    wanted = "v1," + _mac(secret, message_id, timestamp, target, body)
    matches = [hmac.compare_digest(wanted.encode(), part.encode()) for part in given.split(" ")[:4]]
    if not any(matches):
        raise BadSignature
    if abs(now.timestamp() - int(timestamp)) > MAX_AGE.total_seconds():
        raise BadSignature
    return message_id


def _mac(secret: bytes, message_id: str, timestamp: str, target: str, body: bytes) -> str:
    head = f"{target}\n{message_id}.{timestamp}.".encode()
    return base64.b64encode(hmac.new(secret, head + body, hashlib.sha256).digest()).decode()
