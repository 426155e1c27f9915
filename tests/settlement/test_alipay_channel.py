"""What the platform makes of Alipay's answers, the bad ones above all, over Alipay's own wire."""

from asyncio import to_thread
from datetime import timedelta
from itertools import count
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
from alipay import AliPay
from fakes.channels import (
    OUR_PUBLIC,
    OURS,
    THEIR_PUBLIC,
    THEIRS,
    alipay_account as account_at,
    key_pair,
    start_channel,
)
from fakes.outside import answering, http_client, receive_callbacks, until

from quanhui.base import clock
from quanhui.base.errors import MalformedRequest
from quanhui.base.http import NoAnswer
from quanhui.base.rsa import load_private_key, sign_rsa
from quanhui.base.signing import BadSignature
from quanhui.sandboxes.alipay import AlipayWire
from quanhui.sandboxes.callbacks import Event
from quanhui.settlement.channels.alipay import AlipayTransfers, read_bill
from quanhui.settlement.gateway import BillKind, EventKind, TransferOrder, TransferState

numbers = count(1)
OPEN = {TransferState.ACCEPTED, TransferState.UNKNOWN}
HOME = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def alipay(tmp_path_factory):
    with start_channel("alipay", tmp_path_factory.mktemp("alipay")) as sandbox:
        yield sandbox
        assert sandbox.stop() == 0


@pytest.fixture
async def callbacks():
    async with receive_callbacks() as receiver:
        receiver.answer = "success"
        yield receiver


@pytest.fixture
async def gateway(alipay, callbacks):
    async with http_client() as http:
        yield AlipayTransfers(http, account_at(alipay.url), notify_url=callbacks.url, timeout_s=0.5)
    alipay.behave()


def order(amount_fen=10_000, **changes):
    out_no = f"Z{next(numbers):08d}"
    made = TransferOrder(
        out_no=out_no,
        amount_fen=amount_fen,
        payee_account=f"{out_no}@example.com",
        payee_name="张三",
        purpose="购物券回收款",
    )
    return msgspec.structs.replace(made, **changes)


async def send(gateway, one):
    (report,) = await gateway.send([one], now=clock.now())
    return report


async def query(gateway, out_no):
    (report,) = await gateway.query([out_no], now=clock.now())
    return report


async def ended(gateway, out_no):
    for _ in range(100):
        report = await query(gateway, out_no)
        if report.state not in OPEN:
            return report
    raise AssertionError("it did not end")


def moved(alipay, out_no, kind="transfer"):
    return alipay.call(f"/control/moved?by=out_no&kind={kind}").get(out_no)


async def test_a_transfer_is_dealt_with_and_then_succeeds_to_the_fen(gateway):
    one = order(1_234_567)
    report = await send(gateway, one)
    assert report.state is TransferState.ACCEPTED
    paid = await ended(gateway, one.out_no)
    assert (paid.state, paid.amount_fen) == (TransferState.SUCCEEDED, 1_234_567)
    assert paid.institution_no == report.institution_no


async def test_the_same_number_is_paid_once_and_other_content_under_it_is_refused(gateway, alipay):
    one = order(3_000_00)
    assert (await send(gateway, one)).institution_no == (await send(gateway, one)).institution_no
    other = await send(gateway, msgspec.structs.replace(one, amount_fen=4_000_00))
    assert (other.state, other.reason) == (TransferState.UNKNOWN, "code_40004_out_no_reused")
    await ended(gateway, one.out_no)
    assert moved(alipay, one.out_no) == {"count": 1, "sum_fen": 3_000_00}


async def test_a_refusal_that_is_definite_is_a_failure_in_our_words(gateway):
    report = await send(gateway, order(payee_account="nobody@example.com"))
    assert (report.state, report.reason) == (TransferState.FAILED, "account_unusable")


@pytest.mark.parametrize("amount_fen", [9, 0, -1, 5_000_000_01])
async def test_an_amount_that_the_channel_does_not_take_is_never_sent(gateway, amount_fen):
    one = order(amount_fen)
    assert (await send(gateway, one)).reason == "amount_out_of_range"
    assert (await query(gateway, one.out_no)).state is TransferState.NOT_FOUND


@pytest.mark.parametrize(
    ("kind", "acted"),
    [("slow", False), ("error_500_before", False), ("lost_reply", True), ("error_500_after", True)],
)
async def test_without_an_answer_the_state_is_unknown_and_the_same_number_settles_it(
    gateway, alipay, kind, acted
):
    one = order()
    alipay.fault(kind, match=one.out_no, next_n=1, delay_s=0.7)
    assert (await send(gateway, one)).state is TransferState.UNKNOWN
    assert ((await query(gateway, one.out_no)).state is not TransferState.NOT_FOUND) is acted
    await send(gateway, one)
    assert (await ended(gateway, one.out_no)).state is TransferState.SUCCEEDED
    assert moved(alipay, one.out_no)["count"] == 1


async def test_a_request_may_take_effect_after_the_query_that_did_not_find_it(gateway, alipay):
    one = order()
    alipay.fault("late_effect", match=one.out_no, next_n=1, delay_s=0.7)
    assert (await send(gateway, one)).state is TransferState.UNKNOWN
    assert (await query(gateway, one.out_no)).state is TransferState.NOT_FOUND
    await until(lambda: moved(alipay, one.out_no))


async def test_code_20000_is_never_taken_for_an_end(gateway, alipay):
    one = order()
    alipay.fault("unknown", match=one.out_no, times=2)
    assert (await send(gateway, one)).reason == "code_20000_ACQ.SYSTEM_ERROR"
    assert (await query(gateway, one.out_no)).state is TransferState.UNKNOWN
    assert (await ended(gateway, one.out_no)).state is TransferState.SUCCEEDED


async def test_a_bank_may_return_what_had_succeeded(gateway, alipay, callbacks):
    one = order()
    alipay.fault("return_after_success", match=one.out_no, delay_s=0.1)
    await send(gateway, one)
    await until(lambda: moved(alipay, one.out_no, "return"))
    report = await query(gateway, one.out_no)
    assert (report.state, report.reason) == (TransferState.RETURNED, "account_unusable")
    await until(lambda: len(callbacks.requests) >= 2)
    told = [gateway.verify_callback(*request, clock.now()).events[0].kind for request in callbacks.requests]
    assert told == [EventKind.TRANSFER_SUCCEEDED, EventKind.TRANSFER_RETURNED]


async def test_what_was_sent_cannot_be_closed(gateway, alipay):
    one = order()
    alipay.fault("fail", match=one.out_no)
    await send(gateway, one)
    await ended(gateway, one.out_no)
    (report,) = await gateway.close([one.out_no], now=clock.now())
    assert (report.state, report.reason) == (TransferState.FAILED, "account_unusable")


async def test_strangers_and_forgers_get_and_give_nothing_but_unknown(alipay):
    stranger, other = key_pair()
    for changes in [{"private_key": stranger}, {"app": "1"}, {"platform_key": other}]:
        async with http_client() as http:
            gateway = AlipayTransfers(http, account_at(alipay.url, **changes), notify_url=HOME)
            assert (await send(gateway, order())).reason == "nonsense"
            assert (await query(gateway, "Z99999999")).state is TransferState.UNKNOWN
            with pytest.raises(NoAnswer):
                await gateway.bill(clock.local_day(clock.now()), now=clock.now())


async def test_a_notice_tells_once_what_became_true_however_often_it_comes(gateway, alipay, callbacks):
    one = order()
    for kind in ("duplicate_callback", "late_callback", "reordered_callbacks", "forged_callback"):
        alipay.fault(kind, match=one.out_no, delay_s=0.1)
    alipay.fault("replayed_callback", delay_s=0.05, next_n=1)
    await send(gateway, one)
    await until(lambda: len(callbacks.requests) >= 4)
    events, refused = [], 0
    for headers, body in callbacks.requests:
        try:
            events += gateway.verify_callback(headers, body, clock.now()).events
        except BadSignature:
            refused += 1
    assert refused == 1
    assert len({event.id for event in events}) == 1
    assert {(event.kind, event.amount_fen) for event in events} == {(EventKind.TRANSFER_SUCCEEDED, 10_000)}


def notice():
    event = Event(
        id="ev_1", type="transfer.succeeded", out_no="Z1", amount_fen=123, at=clock.now(), institution_no="42"
    )
    wire = AlipayWire(load_private_key(THEIRS), account_at(HOME).app)
    return wire.write([msgspec.json.encode(event)], forged=False).body


def reader(**changes):
    return AlipayTransfers(None, account_at(HOME, **changes), notify_url=HOME)


async def test_every_changed_byte_of_a_notice_is_refused():
    body, now, gateway = notice(), clock.now(), reader()
    assert gateway.verify_callback({}, body, now).events[0].amount_fen == 123
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with pytest.raises(BadSignature):
            gateway.verify_callback({}, changed, now)
    for more in (b"&extra=1", b"&app_id=2021000118640001", b"&sign_type=RSA2"):
        with pytest.raises(BadSignature):
            gateway.verify_callback({}, body + more, now)


@pytest.mark.parametrize("age", [timedelta(minutes=-6), timedelta(hours=27)])
async def test_a_notice_that_is_older_than_their_retries_or_of_the_future_is_refused(age):
    with pytest.raises(BadSignature):
        reader().verify_callback({}, notice(), clock.now() + age)


def signed_notice(content):
    parameters = {
        "app_id": account_at(HOME).app,
        "biz_content": content,
        "msg_method": "alipay.fund.trans.order.changed",
        "notify_id": "n1",
        "utc_timestamp": str(int(clock.now().timestamp() * 1000)),
    }
    text = "&".join(f"{name}={value}" for name, value in sorted(parameters.items()))
    signature = sign_rsa(load_private_key(THEIRS), text.encode())
    return urlencode({**parameters, "sign": signature, "sign_type": "RSA2"}).encode()


@pytest.mark.parametrize(
    "amount", ['"-1.00"', '"1.001"', "1.00", "NaN", '"NaN"', '"1e2"', '"99999999999999999"', '""', "null"]
)
async def test_an_amount_in_a_notice_that_is_not_plain_yuan_is_refused(amount):
    rest = '{"out_biz_no":"Z1","order_id":"42","status":"SUCCESS","trans_amount":'
    fine = reader().verify_callback({}, signed_notice(rest + '"1.00"}'), clock.now())
    assert fine.events[0].amount_fen == 100
    with pytest.raises(MalformedRequest):
        reader().verify_callback({}, signed_notice(rest + amount + "}"), clock.now())


@pytest.mark.parametrize("amount", ['"-1.00"', "1.001", "1e2", '"NaN"', "null", "[]", "-0.01"])
async def test_an_amount_in_an_answer_that_is_not_plain_yuan_makes_it_nonsense(amount):
    node = f'{{"code":"10000","out_biz_no":"Z1","order_id":"4","status":"SUCCESS","trans_amount":{amount}}}'
    signature = sign_rsa(load_private_key(THEIRS), node.encode())
    body = f'{{"alipay_fund_trans_common_query_response":{node},"sign":"{signature}"}}'
    async with answering(200, body.encode()) as url, http_client() as http:
        gateway = AlipayTransfers(http, account_at(url), notify_url=HOME)
        assert (await query(gateway, "Z1")).reason == "nonsense"


async def test_the_bill_tells_what_moved_to_the_fen_and_what_a_fault_makes_of_it(gateway, alipay):
    fine, missing, off, back, extra = (order(amount_fen) for amount_fen in (12_345, 700, 800, 900, 1_000))
    alipay.fault("bill_missing", match=missing.out_no)
    alipay.fault("bill_off_by_one", match=off.out_no)
    alipay.fault("bill_extra", match=extra.out_no)
    alipay.fault("return_after_success", match=back.out_no, delay_s=0)
    orders = [fine, missing, off, back, extra]
    await gateway.send(orders, now=clock.now())
    await until(lambda: moved(alipay, back.out_no, "return"))
    await until(lambda: all(moved(alipay, one.out_no) for one in orders))
    lines = await gateway.bill(clock.local_day(clock.now()), now=clock.now())
    found = {one.out_no: [line for line in lines if line.out_no == one.out_no] for one in orders}
    assert [(line.kind, line.amount_fen) for line in found[fine.out_no]] == [(BillKind.TRANSFER, 12_345)]
    assert found[missing.out_no] == []
    assert found[off.out_no][0].amount_fen in {799, 801}
    assert [line.kind for line in found[back.out_no]] == [BillKind.TRANSFER, BillKind.RETURN]
    assert [line for line in lines if line.out_no.startswith("X") and line.amount_fen == 1_000]


BILL = (
    "#支付宝账务明细查询\r\n账务流水号,业务流水号,商户订单号,商品名称,发生时间,对方账号,收入金额（+元）,"
    "支出金额（-元）,账户余额（元）,交易渠道,业务类型,备注\r\n"
    "F1\t,42\t,Z1\t,x\t,2026-11-22 10:00:00\t,\t,\t,-{amount}\t,0.00\t,支付宝\t,转账\t,\t\r\n"
    "#支出合计：1笔，共-{sum}元\r\n#收入合计：0笔，共0.00元\r\n"
)


@pytest.mark.parametrize(
    ("amount", "total"),
    [
        ("1.00", "1.01"),
        ("NaN", "1.00"),
        ("-1.00", "1.00"),
        ("1.001", "1.00"),
        ("1e2", "100.00"),
        ("", "0.00"),
    ],
)
def test_a_bill_that_does_not_add_up_or_holds_no_plain_amounts_is_none(amount, total):
    assert read_bill(BILL.format(amount="1.00", sum="1.00"))[0].amount_fen == 100
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        read_bill(BILL.format(amount=amount, sum=total))


# ── An independent client agrees, both ways ───────────────────────────────────────────────────────────────


def oracle(private=OURS, public=THEIR_PUBLIC, url=HOME):
    client = AliPay(account_at(HOME).app, None, private, public)
    client._gateway = f"{url}/gateway.do"
    return client


def test_the_oracle_verifies_what_we_sign():
    parameters = {"app_id": "1", "biz_content": '{"a":"张三"}', "sign_type": "RSA2"}
    signature = reader().sign(parameters)
    message = "&".join(f"{name}={value}" for name, value in sorted(parameters.items()))
    verifier = oracle(public=OUR_PUBLIC)
    assert verifier._verify(message, signature)
    assert not verifier._verify(message + "x", signature)


def test_the_oracle_verifies_the_notices_of_the_sandbox_and_we_verify_its_own():
    fields = dict(parse_qsl(notice().decode()))
    signature = fields.pop("sign")
    assert oracle().verify(fields, signature)
    fields.pop("sign_type", None)
    theirs = oracle(private=THEIRS)
    text = "&".join(f"{name}={value}" for name, value in sorted(fields.items()))
    body = urlencode({**fields, "sign": theirs._sign(text), "sign_type": "RSA2"}).encode()
    assert reader().verify_callback({}, body, clock.now()).events


async def test_the_oracle_pays_and_queries_through_the_sandbox(alipay):
    client, out_no = oracle(url=alipay.url), order().out_no
    rest = {"product_code": "TRANS_ACCOUNT_NO_PWD", "biz_scene": "DIRECT_TRANSFER", "out_biz_no": out_no}
    moment = clock.now().astimezone(clock.SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")
    paid = await to_thread(
        client.server_api,
        "alipay.fund.trans.uni.transfer",
        {
            **rest,
            "trans_amount": "1.23",
            "order_title": "x",
            "payee_info": {"identity": "a@example.com", "identity_type": "ALIPAY_LOGON_ID", "name": "张三"},
        },
        timestamp=moment,
    )
    assert (paid["code"], paid["status"]) == ("10000", "DEALING")
    asked = await to_thread(client.server_api, "alipay.fund.trans.common.query", rest, timestamp=moment)
    assert asked["trans_amount"] == "1.23"
