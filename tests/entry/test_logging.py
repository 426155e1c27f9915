import io
import json
import logging

import pytest
import structlog

from quanhui.entry.logging import MASK, mask_secrets, mask_text, set_up_logging
from quanhui.entry.settings import LogLevel


@pytest.mark.parametrize(
    "secret",
    [
        "13812345678",
        "+86 138-1234-5678",
        "6222021234567890123",
        "6222 0212 3456 7890",
        "51010119900101123X",
        "QH12AB34CD56EF78",
        "ABCD-1234-EFGH-5678",
    ],
)
@pytest.mark.parametrize("frame", ["{}", "before {} after", "code={}", "券码{}已", '{{"code":"{}"}}'])
def test_what_looks_like_a_code_a_phone_or_a_card_is_masked(secret, frame):
    masked = mask_text(frame.format(secret))
    assert secret not in masked
    assert masked == frame.format(MASK)


@pytest.mark.parametrize(
    "harmless",
    [
        "ord_01h455vb4pex5vsknk084sn02q",
        "2026-11-22T04:00:00.123456+00:00",
        "2026-11-22 04:00:00,123",
        "127.0.0.1:8700",
        "a3f5" * 16,
        "GET /v1/buyback/orders 201 in 12 ms",
        "SHA256 and UTF-8 over HTTP/1.1",
        "198.00 yuan, 19800 fen",
    ],
)
def test_what_people_need_to_read_is_left_alone(harmless):
    assert mask_text(harmless) == harmless


def test_values_are_masked_however_deep_they_lie():
    event = {"event": "x", "a": {"b": [("13812345678",)], "13812345678": b"raw"}, "n": 12, "ok": True}
    masked = mask_secrets(None, "info", event)
    assert masked == {"event": "x", "a": {"b": [[MASK]], MASK: "<3 bytes>"}, "n": 12, "ok": True}


@pytest.fixture
def written():
    """What the root logger writes in JSON, put back as it was afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    set_up_logging(as_json=True, level=LogLevel.INFO)
    stream = io.StringIO()
    root.handlers[0].setStream(stream)
    yield stream
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_of_ours_and_of_libraries_are_json_and_masked(written):
    structlog.get_logger("ours").info("sold", phone="13812345678", order="ord_1")
    logging.getLogger("library").warning("sent to %s", "13812345678")
    structlog.get_logger("ours").debug("too quiet to be heard")
    ours, library = map(json.loads, written.getvalue().splitlines())
    assert (ours["event"], ours["phone"], ours["order"], ours["level"]) == ("sold", MASK, "ord_1", "info")
    assert (library["event"], library["logger"]) == (f"sent to {MASK}", "library")


def test_a_code_in_an_exception_is_masked_in_its_traceback(written):
    try:
        int("QH12AB34CD56EF78")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    line = json.loads(written.getvalue())
    assert "Traceback" in line["exception"]
    assert "QH12AB34CD56EF78" not in written.getvalue()
