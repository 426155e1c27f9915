"""Orders, lines and quotes: what they are, how they move, how a price comes about. Pure."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.base.money import Dealing, share_half_up
from quanhui.base.states import machine

LINES_MAX: Final = 100
CLOSED_AFTER: Final = timedelta(days=30)


class OrderState(StrEnum):
    """Where a buyback order 回收单 stands."""

    SUBMITTED = "submitted"
    SCREENING = "screening"
    MANUAL_REVIEW = "manual_review"
    QUOTED = "quoted"
    ACCEPTED = "accepted"
    TITLE_TRANSFERRED = "title_transferred"
    SETTLING = "settling"
    SETTLED = "settled"
    CLOSED = "closed"
    REJECTED = "rejected"
    APPEALED = "appealed"
    QUOTE_EXPIRED = "quote_expired"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    CLAWBACK_OPEN = "clawback_open"
    RECOVERED = "recovered"
    WRITTEN_OFF = "written_off"


class QuoteState(StrEnum):
    """Where a quote 报价 stands."""

    ISSUED = "issued"
    ACCEPTED = "accepted"
    EXPIRED = "expired"
    DECLINED = "declined"


_S = OrderState
ORDER = machine(
    "buyback_order",
    OrderState,
    {
        _S.SUBMITTED: [_S.SCREENING],
        _S.SCREENING: [_S.MANUAL_REVIEW, _S.QUOTED, _S.REJECTED],
        _S.MANUAL_REVIEW: [_S.QUOTED, _S.REJECTED],
        _S.REJECTED: [_S.APPEALED],
        _S.APPEALED: [_S.QUOTED, _S.REJECTED],
        # Vouchers of our own issue are claimed, transferred and re-keyed in one transaction.
        _S.QUOTED: [_S.ACCEPTED, _S.SETTLING, _S.QUOTE_EXPIRED, _S.DECLINED],
        _S.ACCEPTED: [_S.TITLE_TRANSFERRED, _S.CANCELLED],
        _S.TITLE_TRANSFERRED: [_S.SETTLING],
        _S.SETTLING: [_S.SETTLED],
        _S.SETTLED: [_S.CLOSED, _S.SETTLING, _S.CLAWBACK_OPEN],
        _S.CLAWBACK_OPEN: [_S.RECOVERED, _S.WRITTEN_OFF],
    },
)
QUOTE = machine(
    "quote",
    QuoteState,
    {QuoteState.ISSUED: [QuoteState.ACCEPTED, QuoteState.EXPIRED, QuoteState.DECLINED]},
)
MACHINES = (ORDER, QUOTE)


class Refusal(StrEnum):
    """Why a line is refused. The reason stays inside; `public_problem` is what the seller is told."""

    MALFORMED = "malformed"
    PRODUCT_MISMATCH = "product_mismatch"
    PRODUCT_UNCLEAR = "product_unclear"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"
    DEAD_CODE = "dead_code"
    NOT_HOLDER = "not_holder"
    CLAIMED = "claimed"
    NOT_CLEAR = "not_clear"
    LOCKED_AT_ISSUER = "locked_at_issuer"
    EXPIRED = "expired"
    EMPTY = "empty"
    NOT_BOUGHT = "not_bought"
    TOO_NEAR_EXPIRY = "too_near_expiry"


PUBLIC_PROBLEM: Final = {
    Refusal.MALFORMED: "code-malformed",
    Refusal.PRODUCT_MISMATCH: "product-mismatch",
    Refusal.PRODUCT_UNCLEAR: "product-needed",
    Refusal.DUPLICATE: "duplicate-code",
    Refusal.EXPIRED: "voucher-expired",
    Refusal.EMPTY: "voucher-empty",
    Refusal.NOT_BOUGHT: "product-not-bought",
    Refusal.TOO_NEAR_EXPIRY: "too-near-expiry",
}
"""What may be said openly: what anyone can tell from the published format, or of a worthless voucher.

Every other refusal looks alike (invariant 16), or it would tell a thief which guesses exist.
"""

ALIKE: Final = "voucher-not-accepted"


def public_problem(refusal: Refusal) -> str:
    """The problem code that the seller is given for a refusal."""
    return PUBLIC_PROBLEM.get(refusal, ALIKE)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One code as the seller gave it, with its product if they said which. Never printed."""

    text: str
    product_id: str | None = None

    def __repr__(self) -> str:
        return f"Item(product_id={self.product_id!r})"


class ReadCode(msgspec.Struct, frozen=True, kw_only=True):
    """One code after reading: normalised under a product, or refused. Never printed."""

    number: int
    code: str = ""
    product_id: str | None = None
    issuer_id: str | None = None
    own_issue: bool = False
    fingerprint: bytes | None = None
    refusal: Refusal | None = None

    @property
    def is_outside(self) -> bool:
        """Whether another issuer has to be asked about it."""
        return self.refusal is None and not self.own_issue

    def __repr__(self) -> str:
        return f"ReadCode(number={self.number}, product_id={self.product_id!r}, refusal={self.refusal!r})"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One voucher of an order: what it brings, in fen, or why it was refused."""

    number: int
    tail: str = ""
    fingerprint: bytes | None = None
    voucher_id: str | None = None
    product_id: str | None = None
    refusal: Refusal | None = None
    face_fen: int = 0
    balance_fen: int = 0
    gross_fen: int = 0
    fee_fen: int = 0
    net_fen: int = 0
    expires_at: datetime | None = None
    reasons: tuple[dict[str, str | int], ...] = ()

    def refused(self, refusal: Refusal) -> "Line":
        """The same line, refused: it brings nothing."""
        return msgspec.structs.replace(self, refusal=refusal, gross_fen=0, fee_fen=0, net_fen=0)


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """An offer for all lines that were not refused, in fen, good until `expires_at`."""

    id: str
    order_id: str
    state: QuoteState
    gross_fen: int
    fee_fen: int
    net_fen: int
    methods: tuple[str, ...]
    model_version: str
    policy_version: str
    inputs_hash: str
    issued_at: datetime
    expires_at: datetime


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A deal with a seller: its lines, and the newest quote if there is one."""

    id: str
    seller_id: str
    state: OrderState
    store_id: str | None
    device_id: str | None
    long_quote: bool
    hold_reason: str | None
    decision_id: str
    method: str | None
    payee_id: str | None
    goods_store_id: str | None
    reason: str | None
    created_at: datetime
    updated_at: datetime
    dealing: Dealing = Dealing.PRINCIPAL
    lines: tuple[Line, ...] = ()
    quote: Quote | None = None

    @property
    def is_rejected(self) -> bool:
        """Whether the whole order was turned down, for now or for good."""
        return self.state in (OrderState.REJECTED, OrderState.APPEALED)

    @property
    def bought_lines(self) -> tuple[Line, ...]:
        """The lines that the quote is for."""
        return tuple(line for line in self.lines if line.refusal is None)


def told_problem(order: Order, line: Line) -> str | None:
    """The problem code that the seller is given for a line; None for a good one.

    Of an order that was rejected as a whole no line is called good, or guessing could go on after it.
    """
    if line.refusal is not None:
        return public_problem(line.refusal)
    return ALIKE if order.is_rejected else None


def price_line(line: Line, *, value_fen: int, fee_bps: int, reasons: Sequence[dict[str, str | int]]) -> Line:
    """Put a price on a line: the gross is the value, the fee is rounded half up, the net is what is left."""
    fee_fen = share_half_up(value_fen, fee_bps)
    percent = f"{fee_bps // 100}.{fee_bps % 100:02d}%"
    fee_reason: dict[str, str | int] = {
        "code": "fee",
        "effect_fen": -fee_fen,
        "zh": f"服务费 {percent}",
        "en": f"Fee {percent}",
    }
    return msgspec.structs.replace(
        line,
        gross_fen=value_fen,
        fee_fen=fee_fen,
        net_fen=value_fen - fee_fen,
        reasons=(*reasons, fee_reason),
    )


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """What a quote was made from: versions, and for each line what its appraisal saw and its fee."""

    model_version: str
    policy_version: str
    inputs: tuple[str, ...]

    def digest(self) -> str:
        """One hash over all of it, for replay."""
        parts = [self.model_version, self.policy_version, *self.inputs]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()


def make_quote(
    quote_id: str,
    order: Order,
    *,
    methods: Sequence[str],
    basis: Basis,
    now: datetime,
    ttl: timedelta,
) -> Quote:
    """Sum the priced lines of an order up into a quote that is good for `ttl`."""
    gross_fen = sum(line.gross_fen for line in order.lines)
    fee_fen = sum(line.fee_fen for line in order.lines)
    return Quote(
        id=quote_id,
        order_id=order.id,
        state=QuoteState.ISSUED,
        gross_fen=gross_fen,
        fee_fen=fee_fen,
        net_fen=gross_fen - fee_fen,
        methods=tuple(methods),
        model_version=basis.model_version,
        policy_version=basis.policy_version,
        inputs_hash=basis.digest(),
        issued_at=now,
        expires_at=now + ttl,
    )
