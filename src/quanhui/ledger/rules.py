"""What a transfer and a balance are. All amounts are fen; a balance is credits minus debits."""

from datetime import datetime
from enum import StrEnum

import msgspec


class Book(StrEnum):
    """Whose money: the institution's custody for clients, or the platform's own. They meet in clearing."""

    CLIENT = "client"
    PLATFORM = "platform"


class Kind(StrEnum):
    """How a balance is kept: guarded under a lock and above a floor, or deferred until it is folded."""

    GUARDED = "guarded"
    DEFERRED = "deferred"


class Status(StrEnum):
    """What became of a transfer asked for; the last three write nothing of the whole batch."""

    POSTED = "posted"
    DUPLICATE = "duplicate"
    KEY_CONFLICT = "key_conflict"
    INSUFFICIENT = "insufficient"
    WITHHELD = "withheld"


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Money to move from `src` (debited) to `dst` (credited), two accounts of one book.

    `key` makes it happen once and starts with `subject`, the id of what it is about, and a colon.
    `event_at` is when it happened; without one, the `now` of the posting.
    """

    key: str
    src: str
    dst: str
    amount_fen: int
    event: str
    subject: str
    event_at: datetime | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one transfer: `posted`, or `duplicate` when it had been posted before."""

    key: str
    status: Status


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """An account and its exact balance. `held_fen` is set aside within it; `floor_fen` null is no guard."""

    id: int
    code: str
    book: Book
    kind: Kind
    floor_fen: int | None
    balance_fen: int
    held_fen: int
    version: int


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer as it stands in the ledger; `reverses` is the id of the one it takes back."""

    id: int
    key: str
    src: str
    dst: str
    amount_fen: int
    event: str
    subject: str
    reverses: int | None
    event_at: datetime
    created_at: datetime


class TrialLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the chart: how many accounts it has and what they sum to."""

    prefix: str
    book: Book
    meaning_zh: str
    meaning_en: str
    accounts: int
    balance_fen: int


class TrialBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Every line of the chart in one snapshot. In order, each of the four sums is exactly 0."""

    lines: list[TrialLine]
    client_fen: int
    platform_fen: int
    total_fen: int
    clearing_fen: int


CLIENT_CLEARING = "client:clearing"
PLATFORM_CLEARING = "platform:clearing"


def trial_balance_of(lines: list[TrialLine]) -> TrialBalance:
    """Add the lines up: each book, both, and the two clearing accounts that mirror each other."""
    client_fen = sum(line.balance_fen for line in lines if line.book is Book.CLIENT)
    platform_fen = sum(line.balance_fen for line in lines if line.book is Book.PLATFORM)
    clearing = (CLIENT_CLEARING, PLATFORM_CLEARING)
    return TrialBalance(
        lines=lines,
        client_fen=client_fen,
        platform_fen=platform_fen,
        total_fen=client_fen + platform_fen,
        clearing_fen=sum(line.balance_fen for line in lines if line.prefix in clearing),
    )
