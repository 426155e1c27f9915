"""A platform with its outside parties for the tests of the edge, and a watch over what it gives away."""

import itertools
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import msgspec
import pytest
from factories.api import Api, open_api, settings_for
from fakes.outside import Sandbox, start_sandbox
from structlog.testing import capture_logs

from quanhui import customers
from quanhui.base import clock
from quanhui.base.db import transaction
from quanhui.catalogue import LegalClass
from quanhui.sample.people import FIRST_PHONE
from quanhui.sample.vouchers import own_vouchers

BODY_LIMIT = 100_000
LONG_LIVED_DAYS = 200
SETTLE_S = 0.05


@dataclass(frozen=True)
class Party:
    """The parties outside, which tests kill and start again."""

    issuer: Sandbox
    bank: Sandbox


@pytest.fixture(scope="module")
def outside(sample, tmp_path_factory) -> Iterator[Party]:
    folder = tmp_path_factory.mktemp("outside")
    with (
        start_sandbox("issuer", folder, seed_file=sample.outside_seed_file) as issuer,
        start_sandbox("institution", folder, settle_s=SETTLE_S) as bank,
    ):
        yield Party(issuer, bank)


@pytest.fixture(scope="module")
async def api(sample, copy_database, outside) -> AsyncIterator[Api]:
    settings = settings_for(
        await copy_database(sample.url),
        body_limit_bytes=BODY_LIMIT,
        issuer_url=outside.issuer.url,
        issuer_secret=outside.issuer.secret,
        institution_url=outside.bank.url,
        institution_secret=outside.bank.secret,
        callback_secret=outside.bank.callback_secret,
    )
    async with open_api(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def codes(sample) -> Iterator[str]:
    """Good codes of our own issue that anyone may offer, each once."""
    return (
        voucher.code
        for voucher in own_vouchers(7, sample.summary.vouchers, now=clock.now())
        if voucher.product.legal_class is LegalClass.SINGLE_PURPOSE_BEARER
        and (voucher.expires_at - clock.now()).days > LONG_LIVED_DAYS
    )


@pytest.fixture(scope="module")
async def secrets(api, sample) -> set[str]:
    """Every code there is, without spaces, and every phone number."""
    own = {voucher.code for voucher in own_vouchers(7, sample.summary.vouchers, now=clock.now())}
    outside = {
        msgspec.json.decode(line)["code"] for line in sample.outside_seed_file.read_bytes().splitlines()
    }
    return own | outside | {str(FIRST_PHONE + number) for number in range(sample.summary.customers)}


@pytest.fixture
def _nothing_is_given_away(api, secrets, caplog) -> Iterator[None]:
    """Look through all that was logged, answered and asked for: no code, no phone number."""
    caplog.set_level(logging.DEBUG)
    api.answers.clear()
    with capture_logs() as events:
        yield
    told = [str(event) for event in events] + [record.getMessage() for record in caplog.records]
    told += [str(record.exc_info) for record in caplog.records if record.exc_info]
    for answer in api.answers:
        told.append(str(answer.request.url))
        if answer.status_code >= 400:
            told.append(answer.text)
    words = set(re.findall(r"[0-9A-Za-z]{8,}", "\n".join(told)))
    assert not words & secrets


_phones = itertools.count(13_900_000_001)


@pytest.fixture
async def seller(api) -> str:
    """The token of somebody new: what others did before does not count against them."""
    phone = str(next(_phones))
    async with transaction(api.desk.pool) as db:
        admitted = await customers.admit_customers(db, api.desk.keyring, [phone], now=clock.now())
    return await api.customer_token(admitted[phone].id)
