"""What the platform makes of the institution's answers, the bad ones above all."""

from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec
import pytest
from fakes.outside import CALLBACK_SECRET, answering, http_client, start_sandbox, until

from quanhui.base import clock
from quanhui.base.errors import MalformedRequest
from quanhui.base.http import NoAnswer
from quanhui.base.signing import BadSignature, sign
from quanhui.settlement.gateway import (
    BillKind,
    EventKind,
    PaymentOrder,
    PaymentState,
    RefundOrder,
    SandboxInstitution,
    TransferOrder,
    TransferState,
)

numbers = count(1)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    sandbox = start_sandbox("institution", tmp_path_factory.mktemp("bank"), settle_s=0.02)
    yield sandbox
    assert sandbox.stop() == 0


@pytest.fixture
async def gateway(bank):
    async with http_client() as http:
        yield reach(http, bank.url, secret=bank.secret)
    bank.behave()


def reach(http, url, *, secret=b"any"):
    return SandboxInstitution(
        http, base_url=url, secret=secret, callback_secret=CALLBACK_SECRET, timeout_s=0.5
    )


def transfer(amount_fen=10_000, **changes):
    order = TransferOrder(
        out_no=f"P{next(numbers):08d}",
        amount_fen=amount_fen,
        payee_account="6222020000000001",
        payee_name="张三",
        purpose="回收款",
    )
    return msgspec.structs.replace(order, **changes)


def payment(amount_fen=8_000):
    return PaymentOrder(
        out_no=f"C{next(numbers):08d}",
        amount_fen=amount_fen,
        description="购券",
        expires_at=clock.now() + timedelta(minutes=5),
    )


async def state_of(gateway, out_no):
    (report,) = await gateway.query([out_no], now=clock.now())
    return report.state


async def settled(gateway, out_no):
    """The state once it is neither accepted nor hidden."""
    for _ in range(100):
        report = (await gateway.query([out_no], now=clock.now()))[0]
        if report.state not in {TransferState.ACCEPTED, TransferState.UNKNOWN}:
            return report
    raise AssertionError("not settled")


def test_a_printed_order_shows_neither_account_nor_name():
    assert "6222" not in repr(transfer())
    assert "张三" not in f"{transfer()}"
    assert "amount_fen=10000" in repr(transfer())


async def test_a_transfer_is_accepted_and_then_succeeds(gateway):
    order = transfer()
    (report,) = await gateway.send([order], now=clock.now())
    assert (report.state, report.amount_fen) == (TransferState.ACCEPTED, 10_000)
    assert (await settled(gateway, order.out_no)).state is TransferState.SUCCEEDED


async def test_a_transfer_sent_twice_is_paid_once(gateway, bank):
    order = transfer(payee_account="acct-twice")
    first, second = [(await gateway.send([order], now=clock.now()))[0] for _ in range(2)]
    assert first.institution_no == second.institution_no
    await settled(gateway, order.out_no)
    assert bank.call("/control/moved?by=party")["acct-twice"] == {"count": 1, "sum_fen": 10_000}


async def test_other_content_under_a_used_number_leaves_the_state_unknown(gateway, bank):
    order = transfer()
    await gateway.send([order], now=clock.now())
    (report,) = await gateway.send([msgspec.structs.replace(order, amount_fen=20_000)], now=clock.now())
    assert (report.state, report.reason) == (TransferState.UNKNOWN, "http_409_out_no_reused")
    await settled(gateway, order.out_no)
    assert bank.call("/control/moved?by=out_no")[order.out_no]["sum_fen"] == 10_000


@pytest.mark.parametrize("amount_fen", [9, 0, -5])
async def test_less_than_the_least_amount_is_never_paid(gateway, amount_fen):
    order = transfer(amount_fen)
    (report,) = await gateway.send([order], now=clock.now())
    assert report.state is TransferState.UNKNOWN
    assert await state_of(gateway, order.out_no) is TransferState.NOT_FOUND


@pytest.mark.parametrize(
    ("kind", "paid"),
    [("slow", False), ("error_500_before", False), ("lost_reply", True), ("error_500_after", True)],
)
async def test_whatever_became_of_a_request_without_an_answer_the_report_says_unknown(
    gateway, bank, kind, paid
):
    order, fine = transfer(), transfer()
    bank.fault(kind, match=order.out_no, next_n=1, delay_s=0.7)
    reports = await gateway.send([order, fine], now=clock.now())
    assert [report.state for report in reports] == [TransferState.UNKNOWN, TransferState.ACCEPTED]
    assert reports[0].reason == "no_answer"
    found = await state_of(gateway, order.out_no)
    assert (found is not TransferState.NOT_FOUND) is paid
    await gateway.send([order], now=clock.now())
    assert (await settled(gateway, order.out_no)).state is TransferState.SUCCEEDED
    assert bank.call("/control/moved?by=out_no")[order.out_no]["count"] == 1


async def test_a_request_may_take_effect_after_the_query_that_did_not_find_it(gateway, bank):
    order = transfer()
    bank.fault("late_effect", match=order.out_no, next_n=1, delay_s=0.7)
    (report,) = await gateway.send([order], now=clock.now())
    assert report.state is TransferState.UNKNOWN
    assert await state_of(gateway, order.out_no) is TransferState.NOT_FOUND
    await until(lambda: order.out_no in bank.call("/control/moved?by=out_no"))


async def test_a_failed_query_says_unknown_and_never_not_found(gateway, bank):
    order = transfer()
    await gateway.send([order], now=clock.now())
    bank.fault("error_500_before", next_n=1)
    assert await state_of(gateway, order.out_no) is TransferState.UNKNOWN


async def test_queries_of_more_than_one_set_answer_in_the_order_asked(gateway):
    orders = [transfer() for _ in range(120)]
    await gateway.send(orders, now=clock.now())
    asked = [order.out_no for order in reversed(orders)] + ["NOSUCH"]
    reports = await gateway.query(asked, now=clock.now())
    assert [report.out_no for report in reports] == asked
    assert reports[-1].state is TransferState.NOT_FOUND
    assert TransferState.NOT_FOUND not in {report.state for report in reports[:-1]}


async def test_nothing_to_send_or_ask_is_no_call_at_all():
    async with http_client() as http:
        nobody = reach(http, "http://127.0.0.1:9")
        assert await nobody.send([], now=clock.now()) == []
        assert await nobody.query([], now=clock.now()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        [],
        {"out_no": "OTHER", "state": "succeeded"},
        {"out_no": "P1", "state": "splendid"},
        {"out_no": "P1", "state": "succeeded", "amount_fen": 10_001},
        {"out_no": "P1", "state": "succeeded", "amount_fen": -1},
    ],
)
async def test_an_answer_that_makes_no_sense_leaves_the_state_unknown(body):
    async with answering(200, body) as url, http_client() as http:
        (report,) = await reach(http, url).send([transfer(out_no="P1")], now=clock.now())
    assert report.state is TransferState.UNKNOWN
    assert report.out_no == "P1"


@pytest.mark.parametrize("results", [[], [{"out_no": "B", "state": "failed"}] * 2, "failed"])
async def test_a_query_answered_about_other_numbers_says_unknown(results):
    async with answering(200, {"results": results}) as url, http_client() as http:
        reports = await reach(http, url).query(["A", "C"], now=clock.now())
    assert [(report.out_no, report.state) for report in reports] == [
        ("A", TransferState.UNKNOWN),
        ("C", TransferState.UNKNOWN),
    ]


async def test_only_an_explicit_failure_is_a_failure(gateway, bank):
    order = transfer()
    bank.fault("fail", match=order.out_no, reason="name_mismatch")
    await gateway.send([order], now=clock.now())
    report = await settled(gateway, order.out_no)
    assert (report.state, report.reason) == (TransferState.FAILED, "name_mismatch")
    async with answering(400, {"code": "failed"}) as url, http_client() as http:
        (refused,) = await reach(http, url).send([transfer()], now=clock.now())
    assert refused.state is TransferState.UNKNOWN


async def test_a_buyer_pays_and_is_refunded_never_more_than_was_paid(gateway):
    order = payment(8_000)
    (opened,) = await gateway.open_payments([order], now=clock.now())
    assert opened.state is PaymentState.PENDING
    paid = await gateway.play_buyer_paying(order.out_no, now=clock.now())
    assert (paid.state, paid.amount_fen) == (PaymentState.SUCCEEDED, 8_000)
    refunds = [
        RefundOrder(out_no=f"{order.out_no}R{i}", payment_out_no=order.out_no, amount_fen=fen, reason="退货")
        for i, fen in enumerate((5_000, 3_000, 1))
    ]
    reports = [(await gateway.refund([refund], now=clock.now()))[0] for refund in refunds]
    assert [report.state for report in reports[:2]] == [TransferState.ACCEPTED] * 2
    assert reports[2].reason == "http_409_refund_exceeds_payment"
    again = await gateway.refund(refunds[:2], now=clock.now())
    assert [report.institution_no for report in again] == [report.institution_no for report in reports[:2]]
    found = await gateway.query_refunds([refund.out_no for refund in refunds], now=clock.now())
    assert found[2].state is TransferState.NOT_FOUND


async def test_a_closed_or_lapsed_payment_cannot_be_paid(gateway):
    closed, lapsed = payment(), msgspec.structs.replace(payment(), expires_at=clock.now())
    await gateway.open_payments([closed, lapsed], now=clock.now())
    (report,) = await gateway.close_payments([closed.out_no], now=clock.now())
    assert (report.state, report.reason) == (PaymentState.CLOSED, "closed")
    for _ in range(100):
        (report,) = await gateway.query_payments([lapsed.out_no], now=clock.now())
        if report.state is PaymentState.CLOSED:
            break
    assert report.reason == "expired"
    for order in (closed, lapsed):
        tried = await gateway.play_buyer_paying(order.out_no, now=clock.now())
        assert (tried.state, tried.reason) == (PaymentState.UNKNOWN, "http_409_is_closed")


async def test_closing_what_is_paid_answers_that_it_is_paid(gateway):
    order, pending = transfer(), payment()
    await gateway.send([order], now=clock.now())
    await settled(gateway, order.out_no)
    (report,) = await gateway.close([order.out_no], now=clock.now())
    assert report.state is TransferState.SUCCEEDED
    await gateway.open_payments([pending], now=clock.now())
    await gateway.play_buyer_paying(pending.out_no, now=clock.now())
    (paid,) = await gateway.close_payments([pending.out_no], now=clock.now())
    assert paid.state is PaymentState.SUCCEEDED


async def test_the_bill_of_a_day_holds_every_movement_and_the_faults_it_was_given(gateway, bank):
    fine, missing, off = transfer(50_000), transfer(60_000), transfer(70_000)
    bank.fault("bill_missing", match=missing.out_no)
    bank.fault("bill_off_by_one", match=off.out_no)
    bank.fault("bill_extra", match=fine.out_no)
    await gateway.send([fine, missing, off], now=clock.now())
    for order in (fine, missing, off):
        assert (await settled(gateway, order.out_no)).state is TransferState.SUCCEEDED
    today = clock.local_day(clock.now())
    lines = await gateway.bill(today, now=clock.now())
    billed = {line.out_no: line.amount_fen for line in lines if line.kind is BillKind.TRANSFER}
    assert billed[fine.out_no] == 50_000
    assert missing.out_no not in billed
    assert abs(billed[off.out_no] - 70_000) == 1
    assert [line.amount_fen for line in lines if line.out_no.startswith("X")] == [50_000]
    assert await gateway.bill(today - timedelta(days=1), now=clock.now()) == []


async def test_half_a_bill_is_no_bill():
    page = {"lines": [], "next_after": 5}
    async with answering(200, page) as url, http_client() as http:
        with pytest.raises(NoAnswer):
            await reach(http, url).bill(clock.local_day(clock.now()), now=clock.now())


AT = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
EVENT = {
    "id": "ev_1",
    "type": "transfer.succeeded",
    "out_no": "P1",
    "amount_fen": 100,
    "at": "2026-11-22T04:00:00Z",
}


def read(body, *, secret=CALLBACK_SECRET, signed_at=AT, read_at=AT, sent=None):
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = sign(secret, id="cb_1", now=signed_at, body=raw)
    # Reading a callback needs no line to the institution.
    institution = SandboxInstitution(
        None, base_url="http://127.0.0.1:9", secret=b"x", callback_secret=CALLBACK_SECRET
    )
    return institution.verify_callback(headers, sent or raw, read_at)


async def test_a_callback_whose_signature_holds_is_read():
    callback = read({"events": [EVENT]})
    assert callback.message_id == "cb_1"
    (event,) = callback.events
    assert (event.id, event.kind, event.out_no, event.amount_fen, event.at) == (
        "ev_1",
        EventKind.TRANSFER_SUCCEEDED,
        "P1",
        100,
        AT,
    )


@pytest.mark.parametrize(
    "how",
    [
        {"secret": b"somebody else's secret"},
        {"signed_at": AT - timedelta(minutes=6)},
        {"sent": msgspec.json.encode({"events": [{**EVENT, "amount_fen": 101}]})},
    ],
    ids=["forged", "replayed too late", "altered"],
)
async def test_a_forged_altered_or_old_callback_is_not_read(how):
    with pytest.raises(BadSignature):
        read({"events": [EVENT]}, **how)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        {},
        {"events": [{**EVENT, "type": "transfer.splendid"}]},
        {"events": [{**EVENT, "amount_fen": -1}]},
    ],
)
async def test_signed_nonsense_is_malformed(body):
    with pytest.raises(MalformedRequest):
        read(body)
