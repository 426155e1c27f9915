"""What customers are made of, and the calculations about them: pure, no I/O."""

import hmac
import secrets
import unicodedata
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from quanhui.base import check_digits
from quanhui.base.attempts import Limit
from quanhui.base.keyring import Keyring, Sealed

CODE_TTL = timedelta(minutes=5)
CODE_TRIES = 5
CODE_DIGITS = 6
SESSION_LIFETIME = timedelta(days=30)
TAIL_LENGTH = 4

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MINUTE = timedelta(minutes=1)

CODES_PER_PHONE_MINUTE = Limit(
    kind="code.phone.minute", tries=1, within=_MINUTE, block=_MINUTE, longest_block=_MINUTE
)
CODES_PER_PHONE = Limit(kind="code.phone", tries=5, within=_HOUR, block=_HOUR, longest_block=_DAY)
CODES_PER_DEVICE = Limit(kind="code.device", tries=10, within=_HOUR, block=_HOUR, longest_block=_DAY)
CODES_PER_ADDRESS = Limit(
    kind="code.address", tries=300, within=_HOUR, block=10 * _MINUTE, longest_block=_HOUR
)
SIGN_INS_PER_ADDRESS = Limit(
    kind="sign_in.address", tries=600, within=_HOUR, block=10 * _MINUTE, longest_block=_HOUR
)
IDENTITIES_PER_CUSTOMER = Limit(kind="identity", tries=10, within=_DAY, block=_DAY, longest_block=_DAY)
"""Limits on an address are wide, because a mobile carrier puts thousands of people behind one."""


class IdentityLevel(StrEnum):
    """How well we know who a customer is 实名等级."""

    NONE = "none"
    NAMED = "named"
    VERIFIED = "verified"


class Status(StrEnum):
    """Whether an account of a customer or an enterprise may be used."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class PayeeKind(StrEnum):
    """Where money can be sent."""

    WECHAT = "wechat"
    ALIPAY = "alipay"
    BANK_CARD = "bank_card"
    SANDBOX = "sandbox"


class ConsentPurpose(StrEnum):
    """What a person may agree to, each by itself (PIPL art. 14: separate and informed)."""

    TERMS = "terms"
    PRIVACY = "privacy"
    IDENTITY_CHECK = "identity_check"
    AUTOMATED_DECISION = "automated_decision"
    MARKETING = "marketing"


class MemberRole(StrEnum):
    """What a person is to an enterprise."""

    OWNER = "owner"
    AGENT = "agent"


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What is private about a customer; at rest it exists only sealed. Prints nothing of it."""

    phone: str
    display_name: str | None = None
    real_name: str | None = None
    id_number: str | None = None

    def __repr__(self) -> str:
        return "Person(***)"


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A person with an account. `sealed` opens to a `Person` under the customer's id."""

    id: str
    sealed: Sealed
    identity_level: IdentityLevel
    verified_at: datetime | None
    elder_mode: bool
    status: Status
    created_at: datetime


class PayeeAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account and the name it is held under; at rest only sealed. Prints nothing of it."""

    account: str
    holder_name: str

    def __repr__(self) -> str:
        return "PayeeAccount(***)"


class Payee(msgspec.Struct, frozen=True, kw_only=True):
    """收款账户: where a customer is paid. `tail` is what may be shown; `sealed` opens to a `PayeeAccount`."""

    id: str
    customer_id: str
    kind: PayeeKind
    tail: str
    account_fingerprint: bytes
    sealed: Sealed
    created_at: datetime
    closed_at: datetime | None


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """同意记录: what was agreed to, in which wording, from when until when."""

    id: str
    purpose: ConsentPurpose
    version: str
    given_at: datetime
    withdrawn_at: datetime | None


class Enterprise(msgspec.Struct, frozen=True, kw_only=True):
    """企业客户: a company by its unified social credit code."""

    id: str
    credit_code: str
    name: str
    status: Status
    created_at: datetime


def seal_person(keyring: Keyring, customer_id: str, person: Person) -> Sealed:
    """Seal what is private about a customer for their row."""
    return keyring.seal(msgspec.json.encode(person).decode(), context=customer_id)


def open_person(keyring: Keyring, customer: Customer) -> Person:
    """Open what is private about a customer."""
    return msgspec.json.decode(keyring.open(customer.sealed, context=customer.id), type=Person)


def seal_payee_account(keyring: Keyring, payee_id: str, account: PayeeAccount) -> Sealed:
    """Seal an account for its row."""
    return keyring.seal(msgspec.json.encode(account).decode(), context=payee_id)


def open_payee_account(keyring: Keyring, payee: Payee) -> PayeeAccount:
    """Open an account, for the one who is about to send money there."""
    return msgspec.json.decode(keyring.open(payee.sealed, context=payee.id), type=PayeeAccount)


def level_of(person: Person) -> IdentityLevel:
    """How well a person is known, from what they told."""
    if person.id_number is not None:
        return IdentityLevel.VERIFIED
    return IdentityLevel.NONE if person.real_name is None else IdentityLevel.NAMED


def phone_fingerprint(keyring: Keyring, phone: str) -> bytes:
    """What a phone number is found by."""
    return keyring.fingerprint("phone", phone)


def id_number_fingerprint(keyring: Keyring, id_number: str) -> bytes:
    """What an identity number is found by."""
    return keyring.fingerprint("id-number", id_number)


def account_fingerprint(keyring: Keyring, kind: PayeeKind, account: str) -> bytes:
    """What an account is found by: the same for everyone who names it, which risk control looks at."""
    return keyring.fingerprint("payee", kind, account)


def new_code() -> str:
    """A random code of six digits."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"


def code_mac(keyring: Keyring, code_id: str, code: str) -> bytes:
    """What is stored of a code: bound to the one request that made it."""
    return keyring.fingerprint("sign-in-code", code_id, code)


def code_matches(keyring: Keyring, code_id: str, code: str, mac: bytes) -> bool:
    """Whether a code is the right one, in constant time."""
    return hmac.compare_digest(code_mac(keyring, code_id, code), mac)


def same_name(one: str, other: str) -> bool:
    """同名校验: whether two spellings are one name.

    Width, spaces, case and the kind of middle dot do not count.
    """
    return _plain_name(one) == _plain_name(other)


def is_account(kind: PayeeKind, account: str) -> bool:
    """Whether an account can exist: bank cards must pass Luhn, the rest is for its institution to say."""
    if kind is PayeeKind.BANK_CARD:
        return check_digits.is_card_number(account)
    return True


def mask_phone(phone: str) -> str:
    """`13812345678` → `138****5678`."""
    return f"{phone[:3]}****{phone[-4:]}"


def mask_name(name: str) -> str:
    """`王小明` → `王**`: the family name stays."""
    return name[:1] + "*" * (len(name) - 1)


def _plain_name(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join("·" if symbol in "·•・‧∙." else symbol for symbol in folded if not symbol.isspace())
