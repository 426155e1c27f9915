"""What people are shown of a payout, in plain words. A seller does not learn why risk control looks twice."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from quanhui.base.access import Actor, Scope
from quanhui.base.db import Db
from quanhui.base.money import yuan
from quanhui.settlement import store
from quanhui.settlement.routing import Wait
from quanhui.settlement.rules import Flag, Hold, Method, Payout, State, TimelineEntry
from quanhui.settlement.store import Words

STATE_WORDS: Mapping[State, Words] = {
    State.CREATED: Words("已生成出款", "Payout created"),
    State.HELD: Words("等待复核", "Waiting for a check"),
    State.APPROVED: Words("复核通过", "Approved"),
    State.SUBMITTED: Words("出款处理中", "On its way to the institution"),
    State.UNKNOWN: Words("支付机构处理中，正在核实结果", "The institution has not answered; we are asking"),
    State.AWAITING_PAYEE: Words(
        "等待您确认收款或到店领取", "Waiting for you to confirm, or to come to the desk"
    ),
    State.SUCCEEDED: Words("已到账", "Paid"),
    State.FAILED: Words("出款失败，款项仍在您的应收余额中", "It failed; the money is still owed to you"),
    State.EXPIRED: Words(
        "超时未确认收款，款项仍在您的应收余额中", "Not confirmed in time; the money is still owed to you"
    ),
    State.CANCELLED: Words("已取消，款项仍在您的应收余额中", "Cancelled; the money is still owed to you"),
    State.RETURNED: Words(
        "银行退票，款项已退回您的应收余额", "Sent back by the bank; the money is owed to you again"
    ),
}
_WAIT_FOR_US = Words(
    "您无需操作，结果会显示在这里", "There is nothing you need to do; the outcome appears here"
)
NEXT_WORDS: Mapping[State, Words] = {
    State.CREATED: _WAIT_FOR_US,
    State.HELD: Words(
        "您无需操作；若原因是实名或收款账户，请先补全",
        "There is nothing you need to do, unless your verified name or account is the reason: complete it",
    ),
    State.APPROVED: _WAIT_FOR_US,
    State.SUBMITTED: _WAIT_FOR_US,
    State.UNKNOWN: _WAIT_FOR_US,
    State.AWAITING_PAYEE: Words(
        "请在 24 小时内确认收款，或到门店领取", "Confirm within 24 hours, or come to the store"
    ),
    State.SUCCEEDED: Words(
        "您无需操作；若未看到到账，请联系客服",
        "There is nothing you need to do; write to us if you miss the money",
    ),
    State.FAILED: Words(
        "请检查或更换收款账户；需要时我们会联系您",
        "Check your account or add another; we get in touch if needed",
    ),
    State.EXPIRED: Words(
        "请联系客服重新出款，并在 24 小时内确认", "Ask us to pay again, and confirm within 24 hours"
    ),
    State.CANCELLED: Words(
        "款项仍属于您，可联系客服重新出款", "The money is still yours; ask us to pay it again"
    ),
    State.RETURNED: Words(
        "请更换收款账户，再联系客服重新出款", "Add another account, then ask us to pay again"
    ),
}
"""What the payee can do in each state."""

BEING_REVIEWED = "under_review"
REVIEW_WORDS = Words("正在复核", "Being reviewed")
PUBLIC_HOLDS = frozenset({Hold.PAYEE_UNVERIFIED, Hold.PLATFORM_DAY_LIMIT, Hold.PAYEE_DAY_LIMIT})
"""Reasons for waiting that a seller is told: they can mend them, or need only wait."""

READ = "settlement.read"
WAITS = frozenset(Wait)


class ReasonView(Struct, frozen=True):
    """Why, as a code and in plain words."""

    code: Annotated[str, Meta(examples=["account_unusable"])]
    zh: Annotated[str, Meta(examples=["收款账户无法入账"])]
    en: Annotated[str, Meta(examples=["The account cannot receive money"])]


class PayoutView(Struct, frozen=True, kw_only=True):
    """A payout 出款."""

    id: Annotated[str, Meta(examples=["pot_01jd8x9k2mf3wvq5t7y1h4n6pz"])]
    order_id: Annotated[str, Meta(examples=["ord_01jd8x9k2mf3wvq5t7y1h4n6pz"])]
    seller_id: str
    method: Method
    amount_fen: Annotated[int, Meta(description="Whole fen.", examples=[18_216])]
    state: State
    state_zh: Annotated[str, Meta(examples=["已到账"])]
    state_en: Annotated[str, Meta(examples=["Paid"])]
    next_zh: Annotated[str, Meta(examples=["您无需操作，结果会显示在这里"])]
    next_en: Annotated[str, Meta(description="What the payee can do.")]
    reason: Annotated[ReasonView | None, Meta(description="Why it waits, failed or came back.")]
    payee_id: Annotated[str | None, Meta(description="The account that cash goes to.")]
    store_id: Annotated[str | None, Meta(description="Where goods are handed over.")]
    attempts: Annotated[int, Meta(description="Transfers begun so far.")]
    flag: Annotated[Flag | None, Meta(description="For staff: what is wrong with the institution's answers.")]
    retry_at: Annotated[datetime | None, Meta(description="When it is tried again by itself.")]
    created_at: datetime
    updated_at: datetime


class StepView(Struct, frozen=True):
    """One step of a payout, in plain words."""

    at: datetime
    state: State
    zh: Annotated[str, Meta(examples=["出款失败，款项仍在您的应收余额中：收款账户无法入账"])]
    en: str
    transfer: Annotated[int | None, Meta(description="Which transfer it was about.")]


class PayoutDetail(Struct, frozen=True):
    """A payout and what happened to it, oldest first."""

    payout: PayoutView
    timeline: list[StepView]


class StoredValueView(Struct, frozen=True):
    """The balance of a stored-value account 储值账户."""

    balance_fen: Annotated[int, Meta(examples=[50_000])]
    balance_yuan: Annotated[str, Meta(examples=["500.00"])]


async def view_payouts(db: Db, actor: Actor, payouts: Sequence[Payout]) -> list[PayoutView]:
    """Payouts as this actor may see them."""
    codes = {_reason_of(payout) for payout in payouts} - {None}
    words = await store.find_words(db, sorted(filter(None, codes)))
    return [_view(actor, payout, words) for payout in payouts]


async def view_detail(db: Db, actor: Actor, payout: Payout) -> PayoutDetail:
    """A payout with its timeline, as this actor may see it: what staff noted down is for staff."""
    steps = await store.timeline(db, payout.id)
    if not _is_staff(actor):
        steps = [step for n, step in enumerate(steps) if n == 0 or _is_news(step, steps[n - 1])]
    codes = {step.reason for step in steps} | {_reason_of(payout)}
    words = await store.find_words(db, sorted(filter(None, codes)))
    return PayoutDetail(_view(actor, payout, words), [_step(actor, step, words) for step in steps])


def stored_value_view(balance_fen: int) -> StoredValueView:
    """A balance in fen, and in yuan to read."""
    return StoredValueView(balance_fen, yuan(balance_fen))


def _reason_of(payout: Payout) -> str | None:
    return payout.hold_reason if payout.state is State.HELD else payout.waiting or payout.failure


def _is_news(step: TimelineEntry, before: TimelineEntry) -> bool:
    """Whether a step tells the payee something: another state, or that it has to wait."""
    return step.state is not before.state or step.reason in WAITS


def _is_staff(actor: Actor) -> bool:
    return actor.reach(READ) is Scope.ALL


def _reason(actor: Actor, state: State, code: str | None, words: Mapping[str, Words]) -> ReasonView | None:
    if code is None:
        return None
    if state is State.HELD and code not in PUBLIC_HOLDS and not _is_staff(actor):
        return ReasonView(BEING_REVIEWED, REVIEW_WORDS.zh, REVIEW_WORDS.en)
    known = words.get(code, Words(code, code) if _is_staff(actor) else None)
    return ReasonView(code, known.zh, known.en) if known else None


def _view(actor: Actor, payout: Payout, words: Mapping[str, Words]) -> PayoutView:
    state_words = STATE_WORDS[payout.state]
    return PayoutView(
        id=payout.id,
        order_id=payout.order_id,
        seller_id=payout.seller_id,
        method=payout.method,
        amount_fen=payout.amount_fen,
        state=payout.state,
        state_zh=state_words.zh,
        state_en=state_words.en,
        next_zh=NEXT_WORDS[payout.state].zh,
        next_en=NEXT_WORDS[payout.state].en,
        reason=_reason(actor, payout.state, _reason_of(payout), words),
        payee_id=payout.payee_id,
        store_id=payout.store_id,
        attempts=payout.attempts,
        flag=payout.flag if _is_staff(actor) else None,
        retry_at=payout.retry_at,
        created_at=payout.created_at,
        updated_at=payout.updated_at,
    )


def _step(actor: Actor, step: TimelineEntry, words: Mapping[str, Words]) -> StepView:
    said = STATE_WORDS[step.state]
    reason = _reason(actor, step.state, step.reason, words)
    zh, en = (f"{said.zh}：{reason.zh}", f"{said.en}: {reason.en}") if reason else (said.zh, said.en)
    return StepView(step.at, step.state, zh, en, step.number)
