"""The payment institution over HTTP: signed under `/v1`, its surroundings played under `/control`."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from msgspec import Meta

from quanhui.sandboxes.institution import (
    BILL_PAGE,
    BillLine,
    Institution,
    Kind,
    Order,
    View,
    moved_by,
    totals,
)

Party = NamedDependency[Institution]
OutNo = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{1,32}$")]
OutNos = Annotated[list[OutNo], Meta(max_length=100)]
Url = Annotated[str, Meta(pattern="^https?://")]
Words = Annotated[str, Meta(min_length=1, max_length=128)]
Instant = Annotated[datetime, Meta(tz=True)]

LEAST_TRANSFER_FEN = 10


class TransferBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pay a payee. The least amount is 0.10 yuan, as with WeChat merchant transfers."""

    out_no: OutNo
    amount_fen: Annotated[int, Meta(ge=LEAST_TRANSFER_FEN)]
    payee_account: Words
    payee_name: Words
    purpose: Words
    callback_url: Url | None = None


class PaymentBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Collect from a buyer, who may pay until `expires_at`."""

    out_no: OutNo
    amount_fen: Annotated[int, Meta(ge=1)]
    description: Words
    expires_at: Instant
    callback_url: Url | None = None


class RefundBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give back what was paid under `payment_out_no`, or a part of it; `out_no` is the refund's own."""

    out_no: OutNo
    payment_out_no: OutNo
    amount_fen: Annotated[int, Meta(ge=1)]
    reason: Words
    callback_url: Url | None = None


class NumbersBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to a hundred of the platform's numbers."""

    out_nos: OutNos


class NumberBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the platform's numbers."""

    out_no: OutNo


class BillBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A day in Shanghai, and the `seq` after which the page begins."""

    day: date
    after: Annotated[int, Meta(ge=0)] = 0


class Views(msgspec.Struct, frozen=True):
    """Answers in the order asked."""

    results: list[View]


class Bill(msgspec.Struct, frozen=True):
    """A page of a bill; `next_after` is null on the last."""

    lines: list[BillLine]
    next_after: int | None


@post("/v1/transfers", status_code=200)
async def transfer(party: Party, data: JSONBody[TransferBody]) -> View:
    """Take a transfer."""
    order = Order(
        kind=Kind.TRANSFER,
        out_no=data.out_no,
        amount_fen=data.amount_fen,
        party=data.payee_account,
        content=msgspec.json.encode(data),
        callback_url=data.callback_url,
    )
    return await party.take(order, "accepted")


@post("/v1/transfers/query", status_code=200)
async def query_transfers(party: Party, data: JSONBody[NumbersBody]) -> Views:
    """How transfers stand."""
    return Views(await party.query(Kind.TRANSFER, data.out_nos))


@post("/v1/transfers/close", status_code=200)
async def close_transfers(party: Party, data: JSONBody[NumbersBody]) -> Views:
    """Close transfers that have not been paid."""
    return Views(await party.close(Kind.TRANSFER, data.out_nos))


@post("/v1/payments", status_code=200)
async def open_payment(party: Party, data: JSONBody[PaymentBody]) -> View:
    """Ask a buyer to pay."""
    order = Order(
        kind=Kind.PAYMENT,
        out_no=data.out_no,
        amount_fen=data.amount_fen,
        party="buyer",
        content=msgspec.json.encode(data),
        callback_url=data.callback_url,
    )
    return await party.take(order, "pending", data.expires_at)


@post(["/v1/payments/pay", "/control/payments/pay"], status_code=200)
async def pay(party: Party, data: JSONBody[NumberBody]) -> View:
    """The buyer's phone pays."""
    return await party.pay(data.out_no)


@post("/v1/payments/query", status_code=200)
async def query_payments(party: Party, data: JSONBody[NumbersBody]) -> Views:
    """How payments stand."""
    return Views(await party.query(Kind.PAYMENT, data.out_nos))


@post("/v1/payments/close", status_code=200)
async def close_payments(party: Party, data: JSONBody[NumbersBody]) -> Views:
    """Close payments that nobody has made."""
    return Views(await party.close(Kind.PAYMENT, data.out_nos))


@post("/v1/refunds", status_code=200)
async def refund(party: Party, data: JSONBody[RefundBody]) -> View:
    """Take a refund."""
    order = Order(
        kind=Kind.REFUND,
        out_no=data.out_no,
        amount_fen=data.amount_fen,
        party=data.payment_out_no,
        content=msgspec.json.encode(data),
        callback_url=data.callback_url,
    )
    return await party.refund(order)


@post("/v1/refunds/query", status_code=200)
async def query_refunds(party: Party, data: JSONBody[NumbersBody]) -> Views:
    """How refunds stand."""
    return Views(await party.query(Kind.REFUND, data.out_nos))


@post("/v1/bills", status_code=200)
async def bill(party: Party, data: JSONBody[BillBody]) -> Bill:
    """One page of everything that moved on a day."""
    lines = party.bill(data.day, data.after)
    return Bill(lines, lines[-1].seq if len(lines) == BILL_PAGE else None)


@post("/control/transfers/confirm", status_code=200)
async def confirm_payee(party: Party, data: JSONBody[NumberBody]) -> View:
    """The payee taps to receive."""
    return await party.confirm_payee(data.out_no)


@get("/control/stats")
async def stats(party: Party) -> dict[str, Any]:
    """Totals by state, of money really moved, and of callbacks."""
    return party.store.read(totals)


@get("/control/moved")
async def moved(
    party: Party, by: FromQuery[Literal["party", "out_no"]], kind: FromQuery[str] = "transfer"
) -> dict[str, dict[str, int]]:
    """Money really moved, per payee or per number: what a double payment would show in."""
    return party.store.read(lambda db: moved_by(db, by, kind))


handlers = [
    transfer,
    query_transfers,
    close_transfers,
    open_payment,
    pay,
    query_payments,
    close_payments,
    refund,
    query_refunds,
    bill,
    confirm_payee,
    stats,
    moved,
]
