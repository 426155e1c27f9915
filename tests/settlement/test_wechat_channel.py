"""What the platform makes of WeChat's answers, the bad ones above all, over WeChat's own wire."""

from asyncio import to_thread
from datetime import timedelta
from itertools import count

import msgspec
import pytest
from fakes.channels import (
    NOTICE_KEY,
    OUR_PUBLIC,
    OURS,
    THEIR_PUBLIC,
    THEIRS,
    key_pair,
    start_channel,
    wechat_account as account_at,
)
from fakes.outside import http_client, receive_callbacks, until
from wechatpayv3 import utils as oracle
from wechatpayv3.core import Core
from wechatpayv3.type import RequestType

from quanhui.base import clock
from quanhui.base.errors import MalformedRequest
from quanhui.base.http import NoAnswer
from quanhui.base.rsa import load_private_key
from quanhui.base.signing import BadSignature
from quanhui.sandboxes.callbacks import Event
from quanhui.sandboxes.wechat import WechatWire
from quanhui.settlement.channels.wechat import WechatTransfers, read_bill
from quanhui.settlement.gateway import BillKind, EventKind, TransferOrder, TransferState

numbers = count(1)
ENDS = {TransferState.SUCCEEDED, TransferState.FAILED, TransferState.RETURNED}


@pytest.fixture(scope="module")
def wechat(tmp_path_factory):
    with start_channel("wechat", tmp_path_factory.mktemp("wechat")) as sandbox:
        yield sandbox
        assert sandbox.stop() == 0


@pytest.fixture
async def callbacks():
    async with receive_callbacks() as receiver:
        yield receiver


@pytest.fixture
async def gateway(wechat, callbacks):
    async with http_client() as http:
        yield WechatTransfers(http, account_at(wechat.url), notify_url=callbacks.url, timeout_s=0.5)
    wechat.behave()


def order(amount_fen=10_000, **changes):
    out_no = f"W{next(numbers):08d}"
    made = TransferOrder(
        out_no=out_no,
        amount_fen=amount_fen,
        payee_account=f"openid-{out_no}",
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
        if report.state in ENDS:
            return report
    raise AssertionError("it did not end")


def moved(wechat, out_no):
    return wechat.call("/control/moved?by=out_no").get(out_no)


async def told(gateway, callbacks, out_no):
    """Every notice received about a number that the gateway believes."""
    events = []
    for headers, body in callbacks.requests:
        try:
            found = gateway.verify_callback(headers, body, clock.now()).events
        except BadSignature:
            continue
        events += [event for event in found if event.out_no == out_no]
    return events


# ── The two ways to pay ───────────────────────────────────────────────────────────────────────────────────


async def test_a_payee_who_taps_is_paid_and_their_app_knows_what_to_open(gateway):
    one = order()
    report = await send(gateway, one)
    assert report.state is TransferState.AWAITING_PAYEE
    assert report.package_info
    paid = await ended(gateway, one.out_no)
    assert (paid.state, paid.amount_fen) == (TransferState.SUCCEEDED, 10_000)
    assert paid.institution_no == report.institution_no


async def test_a_payee_who_agreed_once_is_paid_without_a_tap(gateway, wechat):
    number, openid = f"A{next(numbers):08d}", "openid-agreed"
    asked = await gateway.ask_authorisation(number, openid=openid, shown_name="张三", now=clock.now())
    assert (asked.state, bool(asked.package_info)) == ("WAIT_USER_CONFIRM", True)
    one = order(authorization_no=number, payee_account="ignored")
    assert (await send(gateway, one)).state is TransferState.UNKNOWN
    wechat.call("/control/authorisations/confirm", {"out_no": number})
    assert (await gateway.query_authorisation(number, now=clock.now())).state == "TAKING_EFFECT"
    report = await send(gateway, one)
    assert (report.state, report.package_info) == (TransferState.ACCEPTED, None)
    assert (await ended(gateway, one.out_no)).state is TransferState.SUCCEEDED
    assert wechat.call("/control/moved?by=party")[openid]["sum_fen"] == 10_000
    assert (await gateway.close_authorisation(number, now=clock.now())).state == "CLOSED"
    assert (await send(gateway, order(authorization_no=number))).state is TransferState.UNKNOWN


async def test_a_payee_who_does_not_tap_can_be_paid_no_more_once_it_is_cancelled(gateway, wechat):
    one = order()
    wechat.fault("awaiting_payee", match=one.out_no)
    await send(gateway, one)
    assert (await query(gateway, one.out_no)).state is TransferState.AWAITING_PAYEE
    (closed,) = await gateway.close([one.out_no], now=clock.now())
    assert (closed.state, closed.reason) == (TransferState.FAILED, "closed")
    assert moved(wechat, one.out_no) is None


async def test_what_is_paid_cannot_be_cancelled_any_more(gateway):
    one = order()
    await send(gateway, one)
    await ended(gateway, one.out_no)
    (report,) = await gateway.close([one.out_no], now=clock.now())
    assert report.state is TransferState.SUCCEEDED


@pytest.mark.parametrize("amount_fen", [9, 0, -5, 5_000_000_01])
async def test_an_amount_that_the_channel_does_not_take_is_never_sent(gateway, amount_fen):
    one = order(amount_fen)
    report = await send(gateway, one)
    assert (report.state, report.reason) == (TransferState.FAILED, "amount_out_of_range")
    assert (await query(gateway, one.out_no)).state is TransferState.NOT_FOUND


async def test_from_two_thousand_yuan_on_the_name_goes_along_sealed(gateway):
    for amount_fen, sealed in [(1_999_99, False), (2_000_00, True)]:
        one = order(amount_fen)
        content = gateway._content(one)
        assert ("user_name" in content) is sealed
        assert "张三" not in msgspec.json.encode(content).decode()
        assert (await send(gateway, one)).state is TransferState.AWAITING_PAYEE
    name = gateway._content(order(2_000_00))["user_name"]
    assert oracle.rsa_decrypt(name, oracle.load_private_key(THEIRS)) == "张三"


async def test_the_same_number_is_paid_once_and_other_content_under_it_is_refused(gateway, wechat):
    one = order(3_000_00)
    assert (await send(gateway, one)).institution_no == (await send(gateway, one)).institution_no
    other = await send(gateway, msgspec.structs.replace(one, amount_fen=4_000_00))
    assert (other.state, other.reason) == (TransferState.UNKNOWN, "http_400_ALREADY_EXISTS")
    await ended(gateway, one.out_no)
    assert moved(wechat, one.out_no) == {"count": 1, "sum_fen": 3_000_00}


# ── What goes wrong ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "acted"),
    [("slow", False), ("error_500_before", False), ("lost_reply", True), ("error_500_after", True)],
)
async def test_without_an_answer_the_state_is_unknown_and_the_same_number_settles_it(
    gateway, wechat, kind, acted
):
    one, fine = order(), order()
    wechat.fault(kind, match=one.out_no, next_n=1, delay_s=0.7)
    reports = await gateway.send([one, fine], now=clock.now())
    assert [report.state for report in reports] == [TransferState.UNKNOWN, TransferState.AWAITING_PAYEE]
    assert ((await query(gateway, one.out_no)).state is not TransferState.NOT_FOUND) is acted
    await send(gateway, one)
    assert (await ended(gateway, one.out_no)).state is TransferState.SUCCEEDED
    assert moved(wechat, one.out_no)["count"] == 1


async def test_a_request_may_take_effect_after_the_query_that_did_not_find_it(gateway, wechat):
    one = order()
    wechat.fault("late_effect", match=one.out_no, next_n=1, delay_s=0.7)
    assert (await send(gateway, one)).state is TransferState.UNKNOWN
    assert (await query(gateway, one.out_no)).state is TransferState.NOT_FOUND
    await until(lambda: moved(wechat, one.out_no))


async def test_a_system_error_is_never_taken_for_an_end(gateway, wechat):
    one = order()
    wechat.fault("unknown", match=one.out_no, times=2)
    assert (await send(gateway, one)).reason == "http_500_SYSTEM_ERROR"
    assert (await query(gateway, one.out_no)).state is TransferState.UNKNOWN
    assert (await ended(gateway, one.out_no)).state is TransferState.SUCCEEDED


async def test_a_failure_says_why_in_our_words(gateway, wechat):
    one = order()
    wechat.fault("fail", match=one.out_no)
    await send(gateway, one)
    report = await ended(gateway, one.out_no)
    assert (report.state, report.reason) == (TransferState.FAILED, "account_unusable")
    assert moved(wechat, one.out_no) is None


async def test_success_after_a_cancellation_is_reported_as_success(gateway, wechat, callbacks):
    one = order()
    wechat.fault("awaiting_payee", match=one.out_no)
    wechat.fault("success_after_close", match=one.out_no, delay_s=0.1)
    await send(gateway, one)
    (closed,) = await gateway.close([one.out_no], now=clock.now())
    assert closed.state is TransferState.FAILED
    await until(lambda: moved(wechat, one.out_no))
    assert (await query(gateway, one.out_no)).state is TransferState.SUCCEEDED


async def test_a_return_after_success_contradicts_the_success(gateway, wechat):
    one = order()
    wechat.fault("return_after_success", match=one.out_no, delay_s=0.1)
    await send(gateway, one)
    assert (await ended(gateway, one.out_no)).state is TransferState.SUCCEEDED
    await until(lambda: wechat.call("/control/moved?by=out_no&kind=return").get(one.out_no))
    assert (await query(gateway, one.out_no)).state is TransferState.FAILED


async def test_another_merchants_key_gets_nothing_but_unknown(wechat):
    stranger, _ = key_pair()
    for changes in [{"private_key": stranger}, {"merchant": "1900000000"}, {"serial": "0000"}]:
        async with http_client() as http:
            gateway = WechatTransfers(http, account_at(wechat.url, **changes), notify_url="http://x/y")
            report = await send(gateway, order())
            assert (report.state, report.reason) == (TransferState.UNKNOWN, "http_401_SIGN_ERROR")
            assert (await query(gateway, "W1")).state is TransferState.UNKNOWN


async def test_an_answer_that_wechat_did_not_sign_says_nothing(wechat):
    _, other = key_pair()
    async with http_client() as http:
        believing = account_at(wechat.url, platform_key=other)
        gateway = WechatTransfers(http, believing, notify_url="http://127.0.0.1:9/x")
        assert (await send(gateway, order())).state is TransferState.UNKNOWN
        assert (await query(gateway, "W99999999")).state is TransferState.UNKNOWN
        with pytest.raises(NoAnswer):
            await gateway.bill(clock.local_day(clock.now()), now=clock.now())


# ── Notices ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_notice_tells_once_what_became_true_however_often_it_comes(gateway, wechat, callbacks):
    one = order()
    for kind in ("duplicate_callback", "late_callback", "reordered_callbacks", "forged_callback"):
        wechat.fault(kind, match=one.out_no, delay_s=0.1)
    wechat.fault("replayed_callback", delay_s=0.05, next_n=1)
    await send(gateway, one)
    await until(lambda: len(callbacks.requests) >= 4)
    events = await told(gateway, callbacks, one.out_no)
    assert len(events) >= 2
    assert len({event.id for event in events}) == 1
    assert {(event.kind, event.amount_fen) for event in events} == {(EventKind.TRANSFER_SUCCEEDED, 10_000)}


async def test_a_notice_by_somebody_else_is_refused(gateway, wechat, callbacks):
    one = order()
    wechat.fault("awaiting_payee", match=one.out_no)
    wechat.fault("forged_callback", match=one.out_no)
    await send(gateway, one)
    await until(lambda: callbacks.requests)
    headers, body = callbacks.requests[0]
    with pytest.raises(BadSignature):
        gateway.verify_callback(headers, body, clock.now())


def notice(state="succeeded", reason=None, **names):
    wire = WechatWire(load_private_key(THEIRS), {**vars_of(), **names})
    event = Event(
        id="ev_1", type=f"transfer.{state}", out_no="W1", amount_fen=123, at=clock.now(),
        reason=reason, institution_no="4200",
    )  # fmt: skip
    recorded = wire.write([msgspec.json.encode(event)], forged=False)
    return {name.lower(): value for name, value in recorded.headers.items()}, recorded.body


def vars_of():
    account = account_at("http://127.0.0.1:9")
    return {name: getattr(account, name) for name in ("merchant", "platform_serial", "notice_key")}


def reader(**changes):
    return WechatTransfers(None, account_at("http://127.0.0.1:9", **changes), notify_url="http://x/y")


async def test_every_changed_byte_of_a_notice_is_refused():
    headers, body = notice()
    gateway, now = reader(), clock.now()
    assert gateway.verify_callback(headers, body, now).events[0].out_no == "W1"
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with pytest.raises(BadSignature):
            gateway.verify_callback(headers, changed, now)
    for name in ("wechatpay-timestamp", "wechatpay-nonce", "wechatpay-serial", "wechatpay-signature"):
        for at in range(len(headers[name])):
            text = headers[name]
            changed = {**headers, name: text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]}
            with pytest.raises(BadSignature):
                gateway.verify_callback(changed, body, now)
        with pytest.raises(BadSignature):
            gateway.verify_callback({**headers, name: ""}, body, now)


@pytest.mark.parametrize("age_s", [-301, 301])
async def test_a_notice_that_is_not_of_now_is_refused(age_s):
    headers, body = notice()
    with pytest.raises(BadSignature):
        reader().verify_callback(headers, body, clock.now() + timedelta(seconds=age_s))


async def test_a_notice_sealed_with_another_key_or_for_another_merchant_is_refused():
    headers, body = notice()
    with pytest.raises(BadSignature):
        reader(notice_key="x" * 32).verify_callback(headers, body, clock.now())
    headers, body = notice(merchant="1900000000")
    with pytest.raises(MalformedRequest):
        reader().verify_callback(headers, body, clock.now())


@pytest.mark.parametrize("amount", [b"-1", b"0", b"1.5", b"1e2", b"NaN", b'"1"', b"Infinity", b"1.0"])
async def test_an_amount_in_a_notice_that_is_not_whole_fen_is_refused(amount):
    gateway = reader()
    plain = (
        b'{"mch_id":"1900000109","out_bill_no":"W1","transfer_bill_no":"42","state":"SUCCESS",'
        b'"update_time":"2026-11-22T10:00:00+08:00","transfer_amount":' + amount + b"}"
    )
    wire = WechatWire(load_private_key(THEIRS), vars_of())
    sealed = oracle.AESGCM(NOTICE_KEY.encode()).encrypt(b"0123456789ab", plain, b"")
    resource = {
        "algorithm": "AEAD_AES_256_GCM",
        "nonce": "0123456789ab",
        "ciphertext": oracle.b64encode(sealed).decode(),
    }
    body = msgspec.json.encode(
        {
            "id": "n1",
            "event_type": "MCHTRANSFER.BILL.FINISHED",
            "resource_type": "encrypt-resource",
            "resource": resource,
        }
    )
    headers = {name.lower(): value for name, value in wire.sign(body).items()}
    with pytest.raises(MalformedRequest):
        gateway.verify_callback(headers, body, clock.now())


# ── Bills ─────────────────────────────────────────────────────────────────────────────────────────────────


async def bill_of(gateway, *orders):
    lines = await gateway.bill(clock.local_day(clock.now()), now=clock.now())
    return {one.out_no: [line for line in lines if line.out_no == one.out_no] for one in orders}


async def test_the_bill_tells_what_moved_to_the_fen_and_what_a_fault_makes_of_it(gateway, wechat):
    fine, missing, off, back, extra = (order(amount_fen) for amount_fen in (12_345, 700, 800, 900, 1_000))
    wechat.fault("bill_missing", match=missing.out_no)
    wechat.fault("bill_off_by_one", match=off.out_no)
    wechat.fault("bill_extra", match=extra.out_no)
    wechat.fault("return_after_success", match=back.out_no, delay_s=0)
    orders = [fine, missing, off, back, extra]
    await gateway.send(orders, now=clock.now())
    await until(lambda: wechat.call("/control/moved?by=out_no&kind=return").get(back.out_no))
    await until(lambda: all(moved(wechat, one.out_no) for one in orders))
    found = await bill_of(gateway, *orders)
    assert [(line.kind, line.amount_fen) for line in found[fine.out_no]] == [(BillKind.TRANSFER, 12_345)]
    assert found[missing.out_no] == []
    assert found[off.out_no][0].amount_fen in {799, 801}
    assert [line.kind for line in found[back.out_no]] == [BillKind.TRANSFER, BillKind.RETURN]
    lines = await gateway.bill(clock.local_day(clock.now()), now=clock.now())
    assert [line for line in lines if line.out_no.startswith("X") and line.amount_fen == 1_000]


BILL = (
    "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额（元）,账户结余（元）,"
    "资金变更提交申请人,备注,业务凭证号\r\n"
    "`2026-11-22 10:00:00,`42,`F1,`商家转账,`商家转账,`支出,`{amount},`0.00,`system,`,`W1\r\n"
    "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\r\n`1,`0,`0.00,`1,`{sum}\r\n"
)


@pytest.mark.parametrize(
    ("amount", "total"),
    [
        ("1.00", "1.01"),
        ("NaN", "NaN"),
        ("-1.00", "-1.00"),
        ("1.001", "1.001"),
        ("1e2", "1e2"),
        ("99999999999999999.00", "99999999999999999.00"),
        ("", "0.00"),
        ("１.00", "1.00"),
    ],
)
def test_a_bill_that_does_not_add_up_or_holds_no_plain_amounts_is_none(amount, total):
    assert read_bill(BILL.format(amount="1.00", sum="1.00"))[0].amount_fen == 100
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        read_bill(BILL.format(amount=amount, sum=total))


async def test_a_bill_that_does_not_come_whole_is_none(gateway, wechat):
    wechat.fault("error_500_before", match="billdownload", next_n=1)
    with pytest.raises(NoAnswer):
        await gateway.bill(clock.local_day(clock.now()), now=clock.now())


# ── An independent client agrees, both ways ───────────────────────────────────────────────────────────────


def oracle_core(url):
    account = account_at(url)
    core = Core(
        account.merchant, account.serial, OURS, account.notice_key,
        public_key=THEIR_PUBLIC, public_key_id=account.platform_serial, timeout=5,
    )  # fmt: skip
    core._gate_way = url
    return core


def test_the_oracle_verifies_what_we_sign():
    now, body = clock.now(), b'{"a":1}'
    header = reader()._authorization("POST", "/v3/x?y=1", body, now)
    given = dict(part.split("=", 1) for part in header.split(" ", 1)[1].split(","))
    signed = {name: value.strip('"') for name, value in given.items()}
    message = f"POST\n/v3/x?y=1\n{signed['timestamp']}\n{signed['nonce_str']}\n" + '{"a":1}\n'
    public = oracle.load_public_key(OUR_PUBLIC)
    public.verify(oracle.b64decode(signed["signature"]), message.encode(), oracle.PKCS1v15(), oracle.SHA256())
    assert signed["mchid"] == "1900000109"


def test_the_oracle_opens_the_notices_that_the_sandbox_seals():
    headers, body = notice("failed", "account_unusable")
    opened = oracle_core("http://127.0.0.1:9").callback(headers, body)
    assert opened["resource"]["state"] == "FAIL"
    assert opened["resource"]["transfer_amount"] == 123


async def test_the_oracle_pays_and_queries_through_the_sandbox(wechat):
    core, one = oracle_core(wechat.url), order()
    content = reader()._content(one)
    path = "/v3/fund-app/mch-transfer/transfer-bills"
    code, text = await to_thread(core.request, path, RequestType.POST, content)
    assert (code, msgspec.json.decode(text)["state"]) == (200, "WAIT_USER_CONFIRM")
    code, text = await to_thread(core.request, f"{path}/out-bill-no/{one.out_no}")
    assert (code, msgspec.json.decode(text)["transfer_amount"]) == (200, 10_000)
