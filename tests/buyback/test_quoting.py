"""From what a seller typed to a quote: read, looked up, screened, priced."""

from datetime import timedelta

import asyncpg
import msgspec
import pytest
from factories.deals import (
    BIG,
    CARD,
    COUPON,
    FEAST,
    LOCKED,
    LONG_QUOTE_TTL,
    MULTI,
    QUOTE_TTL,
    REKEYED,
    TOLD,
    TWIN,
    Deal,
    fresh_code,
    reread,
)
from hypothesis import given, strategies as st

from quanhui import buyback, vouchers
from quanhui.base.clock import end_of_local_day, local_day
from quanhui.base.db import Db
from quanhui.buyback import Item, Line, OrderState, QuoteState, ReadCode, Refusal
from quanhui.buyback.rules import price_line
from quanhui.catalogue import BalanceCheck, BalanceStatus

FULL_WIDTH = str.maketrans({chr(c): chr(c + 0xFEE0) for c in range(0x21, 0x7F)})


def refusals(order: buyback.Order) -> list[str | None]:
    return [line.refusal for line in order.lines]


async def test_a_quotes_fee_and_net_make_its_gross(db: Db, deal: Deal):
    order = await deal.sell(
        db, await deal.issue(db), await deal.issue(db, FEAST), await deal.issue(db, COUPON)
    )
    quote = order.quote
    assert order.state is OrderState.QUOTED
    assert quote.fee_fen + quote.net_fen == quote.gross_fen == sum(line.gross_fen for line in order.lines)
    assert quote.fee_fen == sum(line.fee_fen for line in order.lines)
    assert quote.net_fen == sum(line.net_fen for line in order.lines)
    assert all(line.gross_fen <= line.balance_fen for line in order.lines)


@pytest.mark.parametrize(("product", "fee_bps"), [(COUPON, 800), (CARD, 900), (FEAST, 1200)])
async def test_the_fee_is_the_products_own_between_eight_and_twelve_percent(
    db: Db, deal: Deal, product, fee_bps
):
    (line,) = (await deal.sell(db, await deal.issue(db, product))).lines
    assert product.fee_bps == fee_bps
    assert line.fee_fen == round(line.gross_fen * fee_bps / 10_000)


@pytest.mark.parametrize("fee_bps", [799, 1201])
async def test_no_product_has_a_fee_outside_eight_to_twelve_percent(db: Db, deal: Deal, fee_bps):
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute("UPDATE catalogue.product SET fee_bps = $1 WHERE id = $2", fee_bps, CARD.id)


@given(value_fen=st.integers(1, 10**9), fee_bps=st.integers(800, 1200))
def test_no_rounding_takes_more_than_half_a_fen(value_fen, fee_bps):
    line = price_line(Line(number=1), value_fen=value_fen, fee_bps=fee_bps, reasons=())
    assert line.fee_fen + line.net_fen == line.gross_fen == value_fen
    assert abs(line.fee_fen * 10_000 - value_fen * fee_bps) * 2 <= 10_000
    assert line.net_fen > 0


async def test_the_reasons_of_a_price_lead_from_the_balance_to_the_net(db: Db, deal: Deal):
    (line,) = (await deal.sell(db, await deal.issue(db, face_fen=123_45))).lines
    assert line.balance_fen + sum(reason["effect_fen"] for reason in line.reasons) == line.net_fen


async def test_a_price_does_not_depend_on_the_seller(db: Db, deal: Deal):
    """One has sold much and been refused often, the other was never here; the voucher is the same."""
    for _ in range(3):
        order = await deal.sell(db, await deal.issue(db), fresh_code(CARD), seller="cus_regular")
        await deal.accept(db, order)
    code = await deal.issue(db)
    known = await deal.sell(db, code, seller="cus_regular", device_id="dev_1", long_quote=True)
    new = await deal.sell(db, code, seller="cus_new", store_id="sto_1")
    assert known.quote.inputs_hash == new.quote.inputs_hash
    assert [(line.gross_fen, line.fee_fen, line.reasons) for line in known.lines] == [
        (line.gross_fen, line.fee_fen, line.reasons) for line in new.lines
    ]


async def test_another_balance_or_day_or_fee_has_another_hash_of_inputs(db: Db, deal: Deal, now):
    code = await deal.issue(db)
    orders = [
        await deal.sell(db, code),
        await deal.sell(db, await deal.issue(db, face_fen=100_01)),
        await deal.sell(db, await deal.issue(db, days=300)),
    ]
    await db.execute("UPDATE catalogue.product SET fee_bps = fee_bps + 1 WHERE id = $1", CARD.id)
    orders.append(await deal.sell(db, code, at=now + timedelta(seconds=2)))
    assert len({order.quote.inputs_hash for order in orders}) == 4


async def test_an_expired_voucher_is_never_quoted(db: Db, deal: Deal, now):
    code = await deal.issue(db, days=30)
    end = (await deal.voucher(db, code)).expires_at
    for at in (end, end + timedelta(days=400)):
        order = await deal.sell(db, code, at=at)
        assert (order.state, order.quote, refusals(order)) == (OrderState.REJECTED, None, [Refusal.EXPIRED])
    (line,) = (await deal.sell(db, code, at=end - timedelta(microseconds=1))).lines
    assert line.refusal is Refusal.TOO_NEAR_EXPIRY


async def test_a_voucher_too_near_its_end_is_not_bought_and_one_day_earlier_it_is(db: Db, deal: Deal, now):
    seven_days = end_of_local_day(local_day(now) + timedelta(days=7))
    code = await deal.issue(db, days=400)
    await db.execute("UPDATE vouchers.voucher SET expires_at = $1", seven_days)
    assert refusals(await deal.sell(db, code)) == [None]
    assert refusals(await deal.sell(db, code, at=now + timedelta(days=1))) == [Refusal.TOO_NEAR_EXPIRY]


async def test_a_kind_without_a_market_rate_is_not_bought_rather_than_too_near_expiry(db: Db, deal: Deal):
    code = await deal.issue(db)
    await db.execute("DELETE FROM valuation.rate WHERE category = 'supermarket'")
    assert refusals(await deal.sell(db, code)) == [Refusal.NOT_BOUGHT]


async def test_multi_purpose_cards_are_not_bought(db: Db, deal: Deal):
    assert refusals(await deal.sell(db, await deal.issue(db, MULTI))) == [Refusal.NOT_BOUGHT]


async def test_a_card_over_the_legal_face_is_not_bought(db: Db, deal: Deal):
    assert refusals(await deal.sell(db, await deal.issue(db, face_fen=1_000_00))) == [None]
    assert refusals(await deal.sell(db, await deal.issue(db, face_fen=1_000_01))) == [Refusal.NOT_BOUGHT]
    assert refusals(await deal.sell(db, await deal.issue(db, BIG, face_fen=5_000_00))) == [None]


async def test_a_marketing_coupon_is_paid_in_stored_value_or_goods_only(db: Db, deal: Deal):
    card, coupon = await deal.issue(db), await deal.issue(db, COUPON)
    assert (await deal.sell(db, card)).quote.methods == ("cash", "goods", "stored_value")
    assert (await deal.sell(db, coupon)).quote.methods == ("goods", "stored_value")
    assert (await deal.sell(db, card, coupon)).quote.methods == ("goods", "stored_value")


async def test_a_suspended_product_is_not_bought(db: Db, deal: Deal, now):
    code = await deal.issue(db)
    await db.execute("UPDATE catalogue.product SET status = 'suspended' WHERE id = $1", CARD.id)
    order = await deal.sell(db, Item(text=code, product_id=CARD.id), at=now + timedelta(seconds=2))
    assert refusals(order) == [Refusal.NOT_BOUGHT]


@pytest.mark.parametrize(
    "spell",
    [
        lambda code: code.translate(FULL_WIDTH),
        lambda code: " ".join(code[i : i + 4] for i in range(0, len(code), 4)),
        lambda code: "-".join(code[i : i + 4] for i in range(0, len(code), 4)).lower(),
        lambda code: f"\u200b {code}　",
    ],
    ids=["full width", "spaced", "small letters with dashes", "invisible characters"],
)
async def test_a_code_is_accepted_as_people_write_it(db: Db, deal: Deal, spell):
    assert refusals(await deal.sell(db, spell(await deal.issue(db)))) == [None]


async def test_look_alike_characters_are_read_as_what_they_must_be(db: Db, deal: Deal):
    code = deal.issue_outside()
    typed = code[:2] + code[2:].replace("0", "O").replace("1", "l").replace("8", "B").replace("5", "S")
    assert typed != code
    assert refusals(await deal.sell(db, typed)) == [None]


async def test_malformed_and_wrong_product_are_told(db: Db, deal: Deal):
    code = await deal.issue(db)
    slip = code[:-1] + ("2" if code[-1] != "2" else "3")
    order = await deal.sell(
        db,
        "nothing like a code",
        slip,
        Item(text=code, product_id=COUPON.id),
        Item(text=code, product_id=FEAST.id),
        Item(text=code, product_id="vpr_unheard_of"),
        fresh_code(TWIN),
    )
    assert refusals(order) == [
        Refusal.MALFORMED,
        Refusal.MALFORMED,
        Refusal.PRODUCT_MISMATCH,
        Refusal.PRODUCT_MISMATCH,
        Refusal.PRODUCT_MISMATCH,
        Refusal.PRODUCT_UNCLEAR,
    ]


async def test_our_own_products_are_told_apart_though_their_codes_look_alike(db: Db, deal: Deal):
    order = await deal.sell(db, await deal.issue(db, FEAST), await deal.issue(db))
    assert [line.product_id for line in order.lines] == [FEAST.id, CARD.id]


async def test_the_same_code_twice_in_one_submission_is_refused_the_second_time(db: Db, deal: Deal):
    code = await deal.issue(db)
    order = await deal.sell(db, code, code.lower(), Item(text=code, product_id=CARD.id))
    assert refusals(order) == [None, Refusal.DUPLICATE, Refusal.DUPLICATE]
    assert order.quote.gross_fen == order.lines[0].gross_fen


async def test_one_bad_line_does_not_spoil_the_others(db: Db, deal: Deal):
    good, other = await deal.issue(db), await deal.issue(db)
    order = await deal.sell(db, good, "rubbish", other, fresh_code(CARD), await deal.issue(db, MULTI))
    assert refusals(order) == [None, Refusal.MALFORMED, None, Refusal.UNKNOWN, Refusal.NOT_BOUGHT]
    assert order.quote.gross_fen == order.lines[0].gross_fen + order.lines[2].gross_fen
    assert (order.quote.methods, order.state) == (("cash", "goods", "stored_value"), OrderState.QUOTED)


async def test_a_hundred_codes_are_one_order(db: Db, deal: Deal):
    order = await deal.sell(db, *await deal.issue_many(db, 100))
    assert refusals(order) == [None] * 100
    assert await reread(db, order) == order


async def test_a_quote_is_open_for_as_long_as_the_terms_say(db: Db, deal: Deal, now):
    code = await deal.issue(db)
    assert (await deal.sell(db, code)).quote.expires_at == now + QUOTE_TTL
    assert (await deal.sell(db, code, long_quote=True)).quote.expires_at == now + LONG_QUOTE_TTL


@pytest.mark.parametrize(
    "change",
    ["net_fen = net_fen + 1, gross_fen = gross_fen + 1", "expires_at = expires_at + interval '1 day'"],
)
async def test_a_quote_is_immutable_in_the_database(db: Db, deal: Deal, change):
    order = await deal.sell(db, await deal.issue(db))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="immutable"):
        await db.execute(f"UPDATE buyback.quote SET {change} WHERE id = $1", order.quote.id)


async def test_a_quote_whose_time_is_over_expires_with_its_order_and_no_other_does(db: Db, deal: Deal, now):
    short = await deal.sell(db, await deal.issue(db))
    long = await deal.sell(db, await deal.issue(db), long_quote=True)
    assert await buyback.expire_quotes(db, now=now + QUOTE_TTL - timedelta(microseconds=1)) == 0
    assert await buyback.expire_quotes(db, now=now + QUOTE_TTL) == 1
    gone, still = await reread(db, short), await reread(db, long)
    assert (gone.state, gone.quote.state) == (OrderState.QUOTE_EXPIRED, QuoteState.EXPIRED)
    assert (still.state, still.quote.state) == (OrderState.QUOTED, QuoteState.ISSUED)
    assert await buyback.expire_quotes(db, now=now + QUOTE_TTL) == 0


async def test_an_outside_voucher_is_registered_with_what_its_issuer_says(db: Db, deal: Deal):
    code = deal.issue_outside(face_fen=200_00)
    deal.books["iss_rekeys"].spend(code, 50_00)
    (line,) = (await deal.sell(db, code)).lines
    voucher = await deal.voucher(db, code, REKEYED)
    assert (line.face_fen, line.balance_fen) == (200_00, 150_00)
    assert (voucher.verified_fen, voucher.holder_id, voucher.own_issue) == (150_00, None, False)


async def test_the_issuers_newest_word_on_the_balance_counts(db: Db, deal: Deal):
    code = deal.issue_outside()
    await deal.sell(db, code)
    deal.books["iss_rekeys"].spend(code, 30_00)
    (line,) = (await deal.sell(db, code)).lines
    assert line.balance_fen == 70_00
    assert (await deal.voucher(db, code, REKEYED)).verified_fen == 70_00


async def test_an_issuer_that_now_says_more_than_the_face_brings_no_more_than_the_face(
    db: Db, deal: Deal, now
):
    code = deal.issue_outside(face_fen=100_00)
    await deal.sell(db, code)
    deal.books["iss_rekeys"].issue(code, now + timedelta(days=365), face_fen=500_00)
    (line,) = (await deal.sell(db, code)).lines
    assert (line.refusal, line.balance_fen) == (None, 100_00)


async def test_an_issuer_who_cannot_hold_a_voucher_for_us_is_not_bought_from_nor_asked(db: Db, deal: Deal):
    order = await deal.sell(db, deal.issue_outside(TOLD), deal.issue_outside(LOCKED))
    assert refusals(order) == [Refusal.NOT_BOUGHT, None]
    assert not deal.books["iss_tells"].asked


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (BalanceStatus.UNKNOWN, Refusal.UNKNOWN),
        (BalanceStatus.LOCKED, Refusal.LOCKED_AT_ISSUER),
        (BalanceStatus.SPENT, Refusal.EMPTY),
        (BalanceStatus.EXPIRED, Refusal.EXPIRED),
        (BalanceStatus.VOID, Refusal.NOT_CLEAR),
    ],
)
async def test_what_an_issuer_does_not_vouch_for_is_not_bought(db: Db, deal: Deal, status, refusal):
    code = deal.issue_outside()
    deal.books["iss_rekeys"].checks[code] = BalanceCheck(status=status)
    assert refusals(await deal.sell(db, code)) == [refusal]
    assert await deal.voucher(db, code, REKEYED) is None


def test_codes_never_appear_when_printed():
    item = Item(text="RJ2345678", product_id="vpr_1")
    read = ReadCode(number=1, code="RJ2345678", product_id="vpr_1")
    for text in (repr(item), str(item), f"{[item]}", repr(read), str(read), f"{[read]}"):
        assert "2345678" not in text
        assert "vpr_1" in text


async def test_an_order_reads_back_as_it_was_written(db: Db, deal: Deal):
    order = await deal.sell(db, await deal.issue(db), "rubbish", device_id="dev_1", store_id="sto_1")
    assert await reread(db, order) == order
    assert msgspec.structs.asdict(await buyback.lock_order(db, order.id)) == msgspec.structs.asdict(order)
    assert (await vouchers.find_vouchers(db, [order.lines[0].voucher_id]))[order.lines[0].voucher_id].tail
