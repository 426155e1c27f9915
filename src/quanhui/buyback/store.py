"""Orders, lines and quotes to rows and back. The SQL stands in `queries.sql`."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from quanhui.base.db import Db, Row, load_queries
from quanhui.base.money import Dealing
from quanhui.buyback.rules import CLOSED_AFTER, Line, Order, OrderState, Quote, QuoteState, Refusal

queries = load_queries(__file__)


async def insert_orders(db: Db, orders: Sequence[Order]) -> None:
    lines = [(order.id, line) for order in orders for line in order.lines]
    await queries.insert_orders(
        db,
        ids=[order.id for order in orders],
        seller_ids=[order.seller_id for order in orders],
        store_ids=[order.store_id for order in orders],
        device_ids=[order.device_id for order in orders],
        states=[order.state for order in orders],
        long_quotes=[order.long_quote for order in orders],
        hold_reasons=[order.hold_reason for order in orders],
        decision_ids=[order.decision_id for order in orders],
        order_reasons=[order.reason for order in orders],
        created_ats=[order.created_at for order in orders],
        quotes=_quotes([order.quote for order in orders if order.quote]),
        line_orders=[order_id for order_id, _ in lines],
        **_line_arguments([line for _, line in lines]),
        fingerprints=[line.fingerprint for _, line in lines],
        voucher_ids=[line.voucher_id for _, line in lines],
        product_ids=[line.product_id for _, line in lines],
        tails=[line.tail for _, line in lines],
        face_fens=[line.face_fen for _, line in lines],
        balance_fens=[line.balance_fen for _, line in lines],
        expires_ats=[line.expires_at for _, line in lines],
    )


async def insert_quote(db: Db, quote: Quote, lines: Sequence[Line]) -> None:
    await queries.insert_quote(db, id=quote.order_id, quotes=_quotes([quote]), **_line_arguments(lines))


def _quotes(quotes: Sequence[Quote]) -> list[dict[str, Any]]:
    """Quotes as JSON for `jsonb_to_recordset`: their methods are arrays of different lengths."""
    return [msgspec.to_builtins(quote) for quote in quotes]


def _line_arguments(lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "numbers": [line.number for line in lines],
        "refusals": [line.refusal for line in lines],
        "gross_fens": [line.gross_fen for line in lines],
        "fee_fens": [line.fee_fen for line in lines],
        "net_fens": [line.net_fen for line in lines],
        "reasons": [msgspec.json.encode(line.reasons).decode() for line in lines],
    }


async def lock_order(db: Db, order_id: str) -> Order | None:
    """One order, locked until the transaction ends."""
    return (await lock_orders(db, [order_id])).get(order_id)


async def lock_orders(db: Db, order_ids: Sequence[str]) -> dict[str, Order]:
    """Orders by id, locked until the transaction ends; unknown ids are absent."""
    return {row["id"]: _order(row) for row in await queries.lock_orders(db, order_ids=order_ids)}


async def find_orders(db: Db, order_ids: Sequence[str]) -> list[Order]:
    """Orders by id; unknown ids are absent."""
    return [_order(row) for row in await queries.find_orders(db, order_ids=order_ids)]


async def list_orders(
    db: Db, *, seller_id: str | None, store_id: str | None, state: str | None, before: str | None, limit: int
) -> list[Order]:
    """Orders newest first after a cursor."""
    rows = await queries.list_orders(
        db, seller_id=seller_id, store_id=store_id, state=state, before=before, limit=limit
    )
    return [_order(row) for row in rows]


async def accept_orders(
    db: Db, orders: Sequence[Order], states: Sequence[OrderState], *, now: datetime
) -> list[Order]:
    quotes = [order.quote for order in orders if order.quote]
    await queries.accept_orders(
        db,
        order_ids=[order.id for order in orders],
        quote_ids=[quote.id for quote in quotes],
        states=states,
        methods=[order.method for order in orders],
        payee_ids=[order.payee_id for order in orders],
        goods_store_ids=[order.goods_store_id for order in orders],
        hold_reasons=[order.hold_reason for order in orders],
        now=now,
    )
    return [
        msgspec.structs.replace(
            order,
            state=state,
            quote=msgspec.structs.replace(quote, state=QuoteState.ACCEPTED),
            updated_at=now,
        )
        for order, state, quote in zip(orders, states, quotes, strict=True)
    ]


async def close_quote(db: Db, order_id: str, state: QuoteState, *, now: datetime) -> None:
    await queries.close_quote(db, order_id=order_id, state=state, now=now)


async def move_order(
    db: Db, order: Order, state: OrderState, *, reason: str | None = None, now: datetime
) -> Order:
    await move_orders(db, [order.id], before=[order.state], after=state, reason=reason, now=now)
    return msgspec.structs.replace(order, state=state, reason=reason or order.reason, updated_at=now)


async def move_orders(
    db: Db,
    order_ids: Sequence[str],
    *,
    before: Sequence[OrderState],
    after: OrderState,
    reason: str | None = None,
    now: datetime,
) -> None:
    await queries.move_orders(db, order_ids=order_ids, before=before, state=after, reason=reason, now=now)


async def expire_quotes(db: Db, *, limit: int = 500, now: datetime) -> int:
    """Expire quotes whose time is over; returns how many orders moved."""
    return len(await queries.expire_quotes(db, limit=limit, now=now))


async def close_settled(db: Db, *, after: timedelta = CLOSED_AFTER, limit: int = 500, now: datetime) -> int:
    """Close orders that were settled long enough ago; returns how many."""
    count: int = await queries.close_settled(db, before=now - after, limit=limit, now=now)
    return count


async def insert_appeal(db: Db, *, appeal_id: str, order_id: str, words: str, now: datetime) -> None:
    await queries.insert_appeal(db, id=appeal_id, order_id=order_id, words=words, now=now)


async def appeals_of(db: Db, order_id: str) -> list[Row]:
    rows: list[Row] = await queries.appeals_of(db, order_id=order_id)
    return rows


def _order(row: Row) -> Order:
    return Order(
        id=row["id"],
        seller_id=row["seller_id"],
        state=OrderState(row["state"]),
        store_id=row["store_id"],
        device_id=row["device_id"],
        long_quote=row["long_quote"],
        hold_reason=row["hold_reason"],
        decision_id=row["decision_id"],
        method=row["method"],
        payee_id=row["payee_id"],
        goods_store_id=row["goods_store_id"],
        reason=row["reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        dealing=Dealing(row["dealing"]),
        lines=tuple(_line(line) for line in row["lines"]),
        quote=_quote(row["quote"]) if row["quote"] else None,
    )


def _line(found: dict[str, Any]) -> Line:
    return Line(
        number=found["number"],
        tail=found["tail"],
        fingerprint=_bytes(found["fingerprint"]),
        voucher_id=found["voucher_id"],
        product_id=found["product_id"],
        refusal=Refusal(found["refusal"]) if found["refusal"] else None,
        face_fen=found["face_fen"],
        balance_fen=found["balance_fen"],
        gross_fen=found["gross_fen"],
        fee_fen=found["fee_fen"],
        net_fen=found["net_fen"],
        expires_at=_instant(found["expires_at"]) if found["expires_at"] else None,
        reasons=tuple(found["reasons"]),
    )


def _quote(found: dict[str, Any]) -> Quote:
    return Quote(
        id=found["id"],
        order_id=found["order_id"],
        state=QuoteState(found["state"]),
        gross_fen=found["gross_fen"],
        fee_fen=found["fee_fen"],
        net_fen=found["net_fen"],
        methods=tuple(found["methods"]),
        model_version=found["model_version"],
        policy_version=found["policy_version"],
        inputs_hash=found["inputs_hash"],
        issued_at=_instant(found["issued_at"]),
        expires_at=_instant(found["expires_at"]),
    )


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _bytes(text: str | None) -> bytes | None:
    """PostgreSQL writes bytea into JSON as a backslash, an x, and hex digits."""
    return bytes.fromhex(text[2:]) if text else None
