"""Opens what a process needs from its settings: database, keys, caches, and the parties outside."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp

from quanhui import settlement
from quanhui.base.db import open_pool, transaction
from quanhui.base.http import SignedClient, open_client
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import set_routes
from quanhui.buyback import TermsSource
from quanhui.catalogue import CatalogueCache, Connectors, IssuerConnector
from quanhui.catalogue.gateway import SandboxIssuerConnector
from quanhui.customers import SmsGateway
from quanhui.entry.settings import Settings
from quanhui.settlement import AlipayTransfers, SandboxInstitution, WechatTransfers
from quanhui.story import STORY, Desk

CALLBACK_PATH = "/v1/callbacks/institution"


@asynccontextmanager
async def open_desk(
    settings: Settings, *, pool_size: int, name: str, catalogues: CatalogueCache
) -> AsyncIterator[Desk]:
    """Everything a process works with, closed again at the end. Writes the story's routes for the outbox."""
    assert settings.database_url
    pool = await open_pool(settings.database_url, size=pool_size, application_name=name)
    http = open_client()
    try:
        async with transaction(pool) as db:
            await set_routes(db, [(step.fact, step.subscriber) for step in STORY])
        keyring = Keyring(settings.sealing_keys, settings.fingerprint_key)
        institution = _institution(settings, http)
        yield Desk(
            pool=pool,
            keyring=keyring,
            terms=TermsSource(
                keyring,
                catalogues,
                quote_ttl=timedelta(seconds=settings.quote_ttl_s),
                long_quote_ttl=timedelta(seconds=settings.quote_ttl_elder_s),
            ),
            connectors=_connectors(settings, http),
            institution=institution,
            sms=_sms(settings, http),
            channels=_channels(settings, http, institution),
        )
    finally:
        await http.close()
        await pool.close()


def _connectors(settings: Settings, http: aiohttp.ClientSession) -> Connectors:
    def connect(issuer_id: str) -> IssuerConnector:
        return SandboxIssuerConnector(
            http, base_url=settings.issuer_url, issuer=issuer_id, secret=settings.issuer_secret
        )

    return Connectors(connect)


def _institution(settings: Settings, http: aiohttp.ClientSession) -> SandboxInstitution:
    return SandboxInstitution(
        http,
        base_url=settings.institution_url,
        secret=settings.institution_secret,
        callback_secret=settings.callback_secret,
        callback_url=settings.public_base_url + CALLBACK_PATH,
    )


def _channels(
    settings: Settings, http: aiohttp.ClientSession, institution: SandboxInstitution
) -> settlement.Channels:
    """The institution, and every channel that we have an account at."""

    def notify(name: str) -> str:
        return f"{settings.public_base_url}/v1/callbacks/{name}"

    used: dict[str, settlement.Institution] = {settlement.CUSTODIAN: institution}
    if settings.wechat:
        used["wechat"] = WechatTransfers(http, settings.wechat, notify_url=notify("wechat"))
    if settings.alipay:
        used["alipay"] = AlipayTransfers(http, settings.alipay, notify_url=notify("alipay"))
    return used


def _sms(settings: Settings, http: aiohttp.ClientSession) -> SmsGateway:
    return SmsGateway(SignedClient(http, base_url=settings.sms_url, party="sms", secret=settings.sms_secret))
