"""What the worker does for customers: send the codes they asked for."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog

from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.customers.gateway import SmsGateway
from quanhui.customers.rules import CODE_TTL
from quanhui.customers.sessions import open_code_message

TEMPLATE = "sign_in_code"

log = structlog.get_logger()


async def send_sign_in_codes(sms: SmsGateway, keyring: Keyring, jobs: Sequence[Job], now: datetime) -> None:
    """Send the codes of `customers.code_requested` facts; no database here, for this calls outside.

    A code that has run out is not sent. The id of the code is the id of the message, so that the
    gateway can drop a repeat. Raises `NoAnswer` when any message may not have been taken, after trying all.
    """
    alive = [job for job in jobs if datetime.fromisoformat(job.payload["expires_at"]) > now]
    outcomes = await asyncio.gather(*(_send(sms, keyring, job, now) for job in alive), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _send(sms: SmsGateway, keyring: Keyring, job: Job, now: datetime) -> None:
    message = open_code_message(keyring, job.subject, job.payload)
    minutes = str(int(CODE_TTL.total_seconds()) // 60)
    taken = await sms.send(
        to=message.phone,
        template=TEMPLATE,
        params={"code": message.code, "minutes": minutes},
        message_id=job.subject,
        now=now,
    )
    if not taken:
        log.warning("sign_in_code_refused", code_id=job.subject)
