"""What finance does about merchants: fees, charges, answers to disputes, and payments that two people saw."""

from datetime import date
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct

from quanhui import places
from quanhui.base.access import Scope, needs
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call
from quanhui.redemption.merchants.agreeing import add_contract, answer_dispute, settle_dispute
from quanhui.redemption.merchants.drawing import charge_merchant
from quanhui.redemption.merchants.paying import check_transfer, record_transfer
from quanhui.redemption.merchants.rules import BankTransfer, Claim, Contract, Dispute
from quanhui.redemption.merchants.store import queries

SETTLE = needs("statements.settle", Scope.ALL)

MOST_FEN = 100_000_000_00

Id = Annotated[str, PathParameter(max_length=64, description="Id.")]
MerchantId = Annotated[str, Meta(min_length=1, max_length=64, examples=["mer_01kaqtj3v8f6rr3y1n5w9e2mzc"])]
Note = Annotated[str, Meta(min_length=1, max_length=500)]


class ContractBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A fee from a day on, in basis points of what was redeemed."""

    merchant_id: MerchantId
    fee_bps: Annotated[int, Meta(ge=0, le=3000, examples=[60])]
    valid_from: Annotated[date, Meta(examples=["2027-01-01"])]
    valid_to: Annotated[date, Meta(description="First day it no longer holds.")] | None = None


class ChargeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a merchant owes for a campaign."""

    merchant_id: MerchantId
    amount_fen: Annotated[int, Meta(ge=1, le=MOST_FEN, examples=[50_000])]
    note: Annotated[Note, Meta(examples=["双十一联合满减分担"])]


class AnswerBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What to add to the statement, below zero to take away, 0 if the line is right; and why."""

    correction_fen: Annotated[int, Meta(ge=-MOST_FEN, le=MOST_FEN, examples=[0])]
    answer: Annotated[Note, Meta(examples=["收银流水与核销记录一致，金额无误"])]


class SettleBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the answer is agreed with; if not, it is asked for anew."""

    agreed: Annotated[bool, Meta(examples=[True])]


class TransferBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which institution pays, and its number for the transfer."""

    institution: Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]+$", max_length=64, examples=["institution"])]
    reference: Annotated[str, Meta(min_length=4, max_length=64, examples=["BOC20261123000187"])]


class CheckBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the money has left the institution, and a note."""

    confirmed: Annotated[bool, Meta(examples=[True])]
    note: Note | None = None


@get("/merchants/contracts", opt=SETTLE, operation_id="list_contracts", tags=["merchants"])
async def list_contracts(
    call: NamedDependency[Call],
    merchant: Annotated[str | None, QueryParameter(max_length=64, description="Merchant id.")] = None,
    cursor: Annotated[
        str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before.")
    ] = None,
    limit: Annotated[
        int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")
    ] = PAGE_DEFAULT,
) -> Response[Page[Contract]]:
    """List merchants' fees 商户费率合同

    Newest first. A merchant without a contract pays no fee.
    """
    rows = await call.query(
        lambda db: queries.list_contracts(db, merchant_id=merchant, before=cursor, limit=limit + 1)
    )
    return Response(page_of([msgspec.convert(dict(row), Contract) for row in rows], limit=limit))


@post("/merchants/contracts", opt=SETTLE, status_code=201, operation_id="add_contract", tags=["merchants"])
async def post_contract(call: NamedDependency[Call], data: JSONBody[ContractBody]) -> Response[Contract]:
    """Agree on a merchant's fee 新增费率合同

    From a day after today on, until the next contract begins or `valid_to`.
    """

    async def verb(db: Db) -> Contract:
        await _require_merchant(db, data.merchant_id)
        return await add_contract(
            db,
            data.merchant_id,
            fee_bps=data.fee_bps,
            valid_from=data.valid_from,
            valid_to=data.valid_to,
            actor_id=call.actor.id,
            now=call.now,
        )

    return await call.command(verb, status=201)


@post("/merchants/charges", opt=SETTLE, status_code=201, operation_id="charge_merchant", tags=["merchants"])
async def post_charge(call: NamedDependency[Call], data: JSONBody[ChargeBody]) -> Response[Claim]:
    """Charge a merchant for a campaign 登记营销分担

    Taken from what the merchant is owed, and a line of its next statement.
    """

    async def verb(db: Db) -> Claim:
        await _require_merchant(db, data.merchant_id)
        return await charge_merchant(
            db,
            data.merchant_id,
            amount_fen=data.amount_fen,
            note=data.note,
            actor_id=call.actor.id,
            now=call.now,
        )

    return await call.command(verb, status=201)


@post(
    "/merchants/disputes/{dispute_id:str}/answer",
    opt=SETTLE,
    status_code=200,
    operation_id="answer_dispute",
    tags=["merchants"],
)
async def post_answer(
    call: NamedDependency[Call], dispute_id: Id, data: JSONBody[AnswerBody]
) -> Response[Dispute]:
    """Answer a dispute 答复异议

    It counts once a second person agrees.
    """
    return await call.command(
        lambda db: answer_dispute(
            db,
            dispute_id,
            correction_fen=data.correction_fen,
            answer=data.answer,
            actor_id=call.actor.id,
            now=call.now,
        )
    )


@post(
    "/merchants/disputes/{dispute_id:str}/settle",
    opt=SETTLE,
    status_code=200,
    operation_id="settle_dispute",
    tags=["merchants"],
)
async def post_settle(
    call: NamedDependency[Call], dispute_id: Id, data: JSONBody[SettleBody]
) -> Response[Dispute]:
    """Agree with the answer to a dispute 复核异议答复

    By another person than who answered. A correction is posted and becomes a line of the statement.
    """
    return await call.command(
        lambda db: settle_dispute(db, dispute_id, agreed=data.agreed, actor_id=call.actor.id, now=call.now)
    )


@post(
    "/merchants/statements/{statement_id:str}/transfers",
    opt=SETTLE,
    status_code=201,
    operation_id="record_merchant_transfer",
    tags=["merchants"],
)
async def post_transfer(
    call: NamedDependency[Call], statement_id: Id, data: JSONBody[TransferBody]
) -> Response[BankTransfer]:
    """Record a bank transfer to a merchant 登记商户付款

    The bank was told to pay the whole of a due statement. Nothing is posted until another person confirms.
    """
    return await call.command(
        lambda db: record_transfer(
            db,
            statement_id,
            institution=data.institution,
            reference=data.reference,
            actor_id=call.actor.id,
            now=call.now,
        ),
        status=201,
    )


@post(
    "/merchants/statements/{statement_id:str}/transfers/check",
    opt=SETTLE,
    status_code=200,
    operation_id="check_merchant_transfer",
    tags=["merchants"],
)
async def post_check(
    call: NamedDependency[Call], statement_id: Id, data: JSONBody[CheckBody]
) -> Response[BankTransfer]:
    """Confirm a bank transfer to a merchant 复核商户付款

    By another person than who recorded it, from the bank's receipt. Confirmed, fee and payment are posted.
    """
    return await call.command(
        lambda db: check_transfer(
            db,
            statement_id,
            confirmed=data.confirmed,
            note=data.note,
            actor_id=call.actor.id,
            now=call.now,
        )
    )


async def _require_merchant(db: Db, merchant_id: str) -> None:
    if not await places.get_merchants(db, [merchant_id]):
        raise NotFound


handlers: list[HTTPRouteHandler] = [
    list_contracts,
    post_contract,
    post_charge,
    post_answer,
    post_settle,
    post_transfer,
    post_check,
]
