"""The payment institution does what its fault table promises, and keeps its books whatever happens."""

import asyncio
import json
import urllib.error
from collections import Counter
from itertools import count

import pytest
from fakes.outside import CALLBACK_SECRET, http_client, receive_callbacks, start_sandbox, until

from quanhui.base import clock
from quanhui.base.signing import BadSignature
from quanhui.settlement.gateway import PaymentOrder, SandboxInstitution, TransferOrder, TransferState

numbers = count(1)


@pytest.fixture(scope="module")
async def receiver():
    async with receive_callbacks() as opened:
        yield opened


@pytest.fixture(scope="module")
def bank(receiver, tmp_path_factory):
    sandbox = start_sandbox(
        "institution", tmp_path_factory.mktemp("bank"), callback_url=receiver.url, settle_s=0.02, seed=3
    )
    yield sandbox
    assert sandbox.stop() == 0


@pytest.fixture
async def gateway(bank, receiver):
    receiver.requests.clear()
    async with http_client() as http:
        yield reach(http, bank)
    bank.behave()


def reach(http, bank, **changes):
    return SandboxInstitution(
        http, base_url=bank.url, secret=bank.secret, callback_secret=CALLBACK_SECRET, **changes
    )


def orders(how_many=1, payee="acct"):
    return [
        TransferOrder(
            out_no=f"T{next(numbers):08d}",
            amount_fen=10_000,
            payee_account=payee,
            payee_name="李四",
            purpose="回收款",
        )
        for _ in range(how_many)
    ]


async def pay(gateway, order):
    (report,) = await gateway.send([order], now=clock.now())
    return report


async def state_of(gateway, out_no):
    (report,) = await gateway.query([out_no], now=clock.now())
    return report.state


def told(receiver, out_no):
    return [event["type"] for event in receiver.events() if event["out_no"] == out_no]


def told_in_full(receiver, out_no, *kinds):
    return lambda: sorted(told(receiver, out_no)) == sorted(kinds)


async def test_a_success_is_told_by_a_signed_callback(gateway, receiver):
    (order,) = orders()
    await pay(gateway, order)
    await until(told_in_full(receiver, order.out_no, "transfer.succeeded"))
    headers, body = receiver.requests[-1]
    (event,) = gateway.verify_callback(headers, body, clock.now()).events
    assert (event.out_no, event.amount_fen) == (order.out_no, 10_000)


async def test_many_events_travel_in_few_callbacks_of_at_most_fifty(gateway, receiver):
    sent = orders(120)
    await gateway.send(sent, now=clock.now())
    await until(lambda: len(receiver.events()) == 120)
    assert {event["out_no"] for event in receiver.events()} == {order.out_no for order in sent}
    sizes = [len(json.loads(body)["events"]) for _, body in receiver.requests]
    assert max(sizes) <= 50
    assert len(sizes) < 60


async def test_a_callback_is_sent_again_until_it_is_taken(gateway, receiver):
    (order,) = orders()
    receiver.status = 500
    await pay(gateway, order)
    await until(told_in_full(receiver, order.out_no, "transfer.succeeded"))
    receiver.status = 200
    await until(lambda: len(told(receiver, order.out_no)) == 2)
    assert len({event["id"] for event in receiver.events()}) == 1


async def test_a_duplicate_callback_carries_the_same_event_twice(gateway, bank, receiver):
    (order,) = orders()
    bank.fault("duplicate_callback", match=order.out_no)
    await pay(gateway, order)
    await until(told_in_full(receiver, order.out_no, "transfer.succeeded", "transfer.succeeded"))
    assert len({event["id"] for event in receiver.events()}) == 1


async def test_a_late_callback_comes_after_a_query_has_known_for_long(gateway, bank, receiver):
    (order,) = orders()
    bank.fault("late_callback", match=order.out_no, delay_s=0.4)
    await pay(gateway, order)
    await until(lambda: order.out_no in bank.call("/control/moved?by=out_no"))
    assert await state_of(gateway, order.out_no) is TransferState.SUCCEEDED
    assert told(receiver, order.out_no) == []
    await until(told_in_full(receiver, order.out_no, "transfer.succeeded"))


async def test_reordered_callbacks_overtake_one_another(gateway, bank, receiver):
    sent = orders(20)
    bank.fault("reordered_callbacks", delay_s=0.5)
    for order in sent:
        await pay(gateway, order)
    await until(lambda: len(receiver.events()) == 20)
    assert [event["out_no"] for event in receiver.events()] != [order.out_no for order in sent]


async def test_a_forged_callback_claims_a_success_that_never_was_and_its_signature_fails(
    gateway, bank, receiver
):
    (order,) = orders()
    bank.fault("forged_callback", match=order.out_no)
    bank.fault("fail", match=order.out_no)
    await pay(gateway, order)
    await until(told_in_full(receiver, order.out_no, "transfer.succeeded", "transfer.failed"))
    by_kind = {json.loads(body)["events"][0]["type"]: (headers, body) for headers, body in receiver.requests}
    with pytest.raises(BadSignature):
        gateway.verify_callback(*by_kind["transfer.succeeded"], clock.now())
    assert gateway.verify_callback(*by_kind["transfer.failed"], clock.now())
    assert order.out_no not in bank.call("/control/moved?by=out_no")


async def test_a_replayed_callback_is_the_same_to_the_byte(gateway, bank, receiver):
    (order,) = orders()
    bank.fault("replayed_callback", match=order.out_no, next_n=1, delay_s=0.1)
    await pay(gateway, order)
    await until(lambda: len(told(receiver, order.out_no)) == 2)
    (first_headers, first_body), (second_headers, second_body) = receiver.requests
    signed = ("webhook-id", "webhook-timestamp", "webhook-signature")
    assert [first_headers[name] for name in signed] == [second_headers[name] for name in signed]
    assert first_body == second_body


async def test_an_unknown_state_shows_itself_after_as_many_queries_as_were_asked_for(gateway, bank, receiver):
    (order,) = orders()
    bank.fault("unknown", match=order.out_no, times=3)
    assert (await pay(gateway, order)).state is TransferState.UNKNOWN
    await until(lambda: order.out_no in bank.call("/control/moved?by=out_no"))
    assert told(receiver, order.out_no) == []
    states = [await state_of(gateway, order.out_no) for _ in range(4)]
    assert states == [TransferState.UNKNOWN] * 3 + [TransferState.SUCCEEDED]
    await until(told_in_full(receiver, order.out_no, "transfer.succeeded"))


async def test_a_payee_who_must_confirm_is_paid_only_then(gateway, bank, receiver):
    (order,) = orders()
    bank.fault("awaiting_payee", match=order.out_no)
    await pay(gateway, order)
    await until(told_in_full(receiver, order.out_no, "transfer.awaiting_payee"))
    assert order.out_no not in bank.call("/control/moved?by=out_no")
    bank.call("/control/transfers/confirm", {"out_no": order.out_no})
    assert await state_of(gateway, order.out_no) is TransferState.SUCCEEDED
    with pytest.raises(urllib.error.HTTPError) as refused:
        bank.call("/control/transfers/confirm", {"out_no": order.out_no})
    assert refused.value.code == 409
    refused.value.close()


async def test_a_payee_who_waits_can_be_closed_on_and_is_then_never_paid(gateway, bank, receiver):
    (order,) = orders()
    bank.fault("awaiting_payee", match=order.out_no, delay_s=0.5)
    await pay(gateway, order)
    await until(told_in_full(receiver, order.out_no, "transfer.awaiting_payee"))
    (closed,) = await gateway.close([order.out_no], now=clock.now())
    assert (closed.state, closed.reason) == (TransferState.FAILED, "closed")
    await asyncio.sleep(0.6)
    assert await state_of(gateway, order.out_no) is TransferState.FAILED
    assert order.out_no not in bank.call("/control/moved?by=out_no")


async def test_a_success_may_come_after_the_close(gateway, bank, receiver):
    (order,) = orders()
    bank.fault("awaiting_payee", match=order.out_no)
    bank.fault("success_after_close", match=order.out_no, delay_s=0.1)
    await pay(gateway, order)
    await until(told_in_full(receiver, order.out_no, "transfer.awaiting_payee"))
    (closed,) = await gateway.close([order.out_no], now=clock.now())
    assert closed.state is TransferState.FAILED
    await until(lambda: told(receiver, order.out_no)[-1] == "transfer.succeeded")
    assert await state_of(gateway, order.out_no) is TransferState.SUCCEEDED


async def test_a_return_after_success_is_a_second_movement_of_the_same_amount(gateway, bank, receiver):
    (order,) = orders()
    bank.fault("return_after_success", match=order.out_no, delay_s=0.1, reason="account_closed")
    await pay(gateway, order)
    await until(told_in_full(receiver, order.out_no, "transfer.succeeded", "transfer.returned"))
    (report,) = await gateway.query([order.out_no], now=clock.now())
    assert (report.state, report.reason) == (TransferState.RETURNED, "account_closed")
    for kind in ("transfer", "return"):
        moved = bank.call(f"/control/moved?by=out_no&kind={kind}")[order.out_no]
        assert moved == {"count": 1, "sum_fen": 10_000}


async def test_a_payment_made_is_told_and_one_that_succeeds_after_its_close_too(gateway, bank, receiver):
    made, closed = (
        PaymentOrder(out_no=f"C{n}", amount_fen=500, description="购券", expires_at=clock.end_of_local_day(
            clock.local_day(clock.now())))
        for n in (next(numbers), next(numbers))
    )  # fmt: skip
    bank.fault("success_after_close", match=closed.out_no, delay_s=0.1)
    await gateway.open_payments([made, closed], now=clock.now())
    bank.call("/control/payments/pay", {"out_no": made.out_no})
    await gateway.close_payments([closed.out_no], now=clock.now())
    await until(told_in_full(receiver, made.out_no, "payment.succeeded"))
    await until(told_in_full(receiver, closed.out_no, "payment.closed", "payment.succeeded"))


async def test_a_fault_strikes_as_often_as_it_was_told_to(gateway, bank, receiver):
    async def failures_among(sent):
        receiver.requests.clear()
        await gateway.send(sent, now=clock.now())
        await until(lambda: len(receiver.events()) == len(sent))
        return Counter(event["type"] for event in receiver.events())["transfer.failed"]

    bank.fault("fail", next_n=2)
    assert await failures_among(orders(10)) == 2
    assert bank.call("/control/faults") == []
    bank.fault("fail", probability=0.5)
    assert 30 <= await failures_among(orders(100)) <= 70


async def test_what_was_answered_before_a_kill_is_in_the_books_after_it_and_nothing_is_paid_twice(
    receiver, tmp_path
):
    receiver.requests.clear()
    sent = orders(2_000, payee="acct-crash")
    with start_sandbox("institution", tmp_path, callback_url=receiver.url, settle_s=0.2) as bank:
        async with http_client() as http:
            gateway = reach(http, bank)
            reports = await gateway.send(sent[:20], now=clock.now())
            sending = asyncio.create_task(gateway.send(sent[20:], now=clock.now()))
            await asyncio.sleep(0.1)
            bank.kill()
            reports += await sending
    before = {report.out_no for report in reports if report.state is TransferState.ACCEPTED}
    assert 0 < len(before) < 2_000
    with bank.start_again() as bank:
        async with http_client() as http:
            gateway = reach(http, bank)
            found = await gateway.query([order.out_no for order in sent], now=clock.now())
            assert TransferState.UNKNOWN not in {report.state for report in found}
            known = {report.out_no for report in found if report.state is not TransferState.NOT_FOUND}
            assert before <= known
            await gateway.send(sent, now=clock.now())
        await until(lambda: len({event["out_no"] for event in receiver.events()}) == 2_000, timeout_s=10)
        moved = bank.call("/control/moved?by=out_no")
        assert Counter(one["count"] for one in moved.values()) == {1: 2_000}
        assert bank.call("/control/moved?by=party") == {"acct-crash": {"count": 2_000, "sum_fen": 20_000_000}}
