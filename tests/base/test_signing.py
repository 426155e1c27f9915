from datetime import timedelta

import pytest

from quanhui.base.signing import MAX_AGE, BadSignature, sign, verify

SECRET, BODY, TARGET = b"shared", b'{"amount_fen":1}', "POST /v1/lock"


@pytest.fixture
def headers(now):
    return sign(SECRET, id="msg_1", now=now, body=BODY, target=TARGET)


def test_a_signed_message_is_believed_and_its_id_returned(headers, now):
    assert verify(SECRET, headers, now=now, body=BODY, target=TARGET) == "msg_1"


@pytest.mark.parametrize(
    "change",
    [
        {"body": BODY + b" "},
        {"target": "POST /v1/unlock"},
        {"target": ""},
        {"secret": b"another"},
    ],
)
def test_a_signature_fits_one_body_one_call_and_one_secret(headers, now, change):
    given = {"secret": SECRET, "body": BODY, "target": TARGET, **change}
    with pytest.raises(BadSignature):
        verify(given.pop("secret"), headers, now=now, **given)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "x", "٣", "v1,", "1" * 40, "ü"])
def test_a_header_that_is_missing_or_changed_is_refused(headers, now, name, value):
    changed = {key: text for key, text in headers.items() if key != name}
    if value is not None:
        changed[name] = value
    with pytest.raises(BadSignature):
        verify(SECRET, changed, now=now, body=BODY, target=TARGET)


def test_an_old_message_and_one_from_the_future_are_refused(headers, now):
    second = timedelta(seconds=1)
    for at in (now + MAX_AGE, now - MAX_AGE):
        assert verify(SECRET, headers, now=at, body=BODY, target=TARGET)
    for at in (now + MAX_AGE + second, now - MAX_AGE - second):
        with pytest.raises(BadSignature):
            verify(SECRET, headers, now=at, body=BODY, target=TARGET)


def test_while_a_secret_is_changed_either_signature_will_do(headers, now):
    other = sign(b"new", id="msg_1", now=now, body=BODY, target=TARGET)["webhook-signature"]
    both = {**headers, "webhook-signature": f"{other} {headers['webhook-signature']}"}
    assert verify(SECRET, both, now=now, body=BODY, target=TARGET)
    many = {**headers, "webhook-signature": " ".join([other] * 4 + [headers["webhook-signature"]])}
    with pytest.raises(BadSignature):
        verify(SECRET, many, now=now, body=BODY, target=TARGET)
