"""Logging: JSON lines in production, readable lines in development, and a last guard for secrets.

Code never logs a voucher code, a phone number or a card number. If it does by mistake, the guard masks
whatever looks like one before the line is written, whether it came through structlog or the standard library.
"""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from quanhui.entry.settings import LogLevel

_PHONE = re.compile(r"(?<!\d)(?:\+?86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}(?!\d)", re.ASCII)
_DIGITS = re.compile(r"(?<![\w.])\d(?:[ -]?\d){11,}[Xx]?(?!\w)", re.ASCII)
_CODE = re.compile(r"(?<![\w-])(?=[A-Z-]*\d)[A-Z0-9]{3,}(?:-[A-Z0-9]{3,})*(?![\w-])", re.ASCII)
_SHORTEST_CODE = 10
_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
MASK = "▮▮▮"


def set_up_logging(*, as_json: bool, level: LogLevel) -> None:
    """Send everything that is logged, by us or a library, to standard error, one line each."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask_secrets, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask whatever looks like a code, phone or card in any value of an event: a structlog processor."""
    return {key: value if key == "timestamp" else _masked(value) for key, value in event.items()}


def mask_text(text: str) -> str:
    """Replace what looks like a phone number, a card or identity number, or a voucher code."""
    kept: list[str] = []
    end = 0
    for match in _DATE_AND_TIME.finditer(text):
        kept += [_mask_part(text[end : match.start()]), match.group()]
        end = match.end()
    return "".join([*kept, _mask_part(text[end:])])


def _mask_part(text: str) -> str:
    text = _PHONE.sub(MASK, text)
    text = _DIGITS.sub(MASK, text)
    return _CODE.sub(_mask_code, text)


def _mask_code(match: re.Match[str]) -> str:
    return MASK if len(match.group().replace("-", "")) >= _SHORTEST_CODE else match.group()


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, dict):
        return {mask_text(str(key)): _masked(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(part) for part in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return mask_text(str(value))
