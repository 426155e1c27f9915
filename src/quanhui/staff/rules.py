"""What staff and partners are made of, and the calculations about them: pure, no I/O."""

import re
import secrets
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from quanhui.base.access import Scope
from quanhui.base.attempts import Limit
from quanhui.base.keyring import Keyring, Sealed

SESSION_LIFETIME = timedelta(hours=12)
PASSWORD_MIN_LENGTH = 12
PASSWORD_MAX_LENGTH = 128
PARTNER_SECRET_BYTES = 32

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)

SIGN_INS_PER_LOGIN = Limit(kind="staff.login", tries=5, within=_HOUR, block=_MINUTE, longest_block=24 * _HOUR)
SIGN_INS_PER_ADDRESS = Limit(
    kind="staff.address", tries=60, within=10 * _MINUTE, block=10 * _MINUTE, longest_block=24 * _HOUR
)


class Status(StrEnum):
    """Whether an operator or a partner may use the platform."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class OperatorSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """What is private about an operator; at rest only sealed. Prints nothing of it."""

    name: str
    totp_secret: str

    def __repr__(self) -> str:
        return "OperatorSecrets(***)"


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """员工: someone who works with the platform. `sealed` opens to `OperatorSecrets` under the id."""

    id: str
    login: str
    sealed: Sealed
    status: Status
    store_id: str | None
    merchant_id: str | None
    roles: tuple[str, ...]
    created_at: datetime


class NewOperator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator to add. `password_hash` is argon2id; the roles must be ones that staff may hold."""

    login: str
    name: str
    password_hash: str
    totp_secret: str
    roles: tuple[str, ...]
    store_id: str | None = None
    merchant_id: str | None = None

    def __repr__(self) -> str:
        return f"NewOperator(login={self.login!r})"


class Partner(msgspec.Struct, frozen=True, kw_only=True):
    """合作方: a program of an enterprise or a merchant that calls the API."""

    id: str
    name: str
    enterprise_id: str | None
    merchant_id: str | None
    status: Status
    created_at: datetime


class PartnerKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new signing key. The secret exists here and in the answer to whoever asked for it."""

    partner_id: str
    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"PartnerKey(key_id={self.key_id!r})"


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """角色: what its holders may do, and how far it reaches."""

    name: str
    holder: str
    zh: str
    en: str
    grants: dict[str, Scope]


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """操作留痕: who did what, to what, and why. No secrets and no personal data in the reason."""

    actor_id: str
    action: str
    subject: str
    reason: str


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An audit entry as it was written."""

    id: str
    actor_id: str
    action: str
    subject: str
    reason: str
    at: datetime


def plain_login(login: str) -> str:
    """The form in which logins are kept and compared."""
    return login.strip().lower()


def seal_operator(keyring: Keyring, operator_id: str, private: OperatorSecrets) -> Sealed:
    """Seal what is private about an operator for their row."""
    return keyring.seal(msgspec.json.encode(private).decode(), context=operator_id)


def open_operator(keyring: Keyring, operator_id: str, sealed: Sealed) -> OperatorSecrets:
    """Open what is private about an operator."""
    return msgspec.json.decode(keyring.open(sealed, context=operator_id), type=OperatorSecrets)


def new_partner_secret() -> str:
    """256 random bits, as text."""
    return secrets.token_urlsafe(PARTNER_SECRET_BYTES)


def is_message_id(text: str) -> bool:
    """Whether a message id can be kept: 1 to 128 visible ASCII characters."""
    return re.fullmatch(r"[!-~]{1,128}", text) is not None
