"""Puts the sample into an empty database, all or nothing, through the bulk verb of each domain."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from quanhui.base.db import Db, Pool, transaction
from quanhui.base.keyring import Keyring
from quanhui.catalogue import LegalClass, enrol as enrol_catalogue, load_catalogue
from quanhui.customers import MemberRole, enrol as enrol_customers, put_member, register_enterprise
from quanhui.ledger import post, postings
from quanhui.places import enrol as enrol_places
from quanhui.sample.accounts import SampleOperator, make_operators
from quanhui.sample.dice import Names, dice
from quanhui.sample.divisions import divisions
from quanhui.sample.offers import Offers, make_offers
from quanhui.sample.outside import write_outside_vouchers
from quanhui.sample.people import SIGN_IN_SAMPLES, make_companies, make_customers
from quanhui.sample.shops import Shops, make_shops
from quanhui.sample.vouchers import own_vouchers, sealed_for_registry
from quanhui.settlement import CUSTODIAN
from quanhui.staff import enrol as enrol_staff
from quanhui.vouchers import enrol as enrol_vouchers

FUNDS_FEN = 100_000_000 * 100
CHUNK = 20_000
CODES_TO_TRY_OF_EACH = 2
OUTSIDE_AT_LEAST, OUTSIDE_AT_MOST, OUTSIDE_SHARE = 50, 2_000, 20

Thing = TypeVar("Thing")


class SampleRefused(RuntimeError):
    """The database is not empty; nothing was loaded."""


class SampleCode(msgspec.Struct, frozen=True, kw_only=True):
    """A voucher for a newcomer to try. It is told on purpose, so it does show its code."""

    product: str
    legal_class: LegalClass
    code: str
    face_fen: int
    expires_at: datetime


class SampleCustomer(msgspec.Struct, frozen=True, kw_only=True):
    """A person to sign in as; the sign-in code arrives at the SMS sandbox. `enterprise`: one they act for."""

    id: str
    phone: str
    enterprise_id: str | None = None
    enterprise: str | None = None


class SampleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was loaded, and what a newcomer needs to try it."""

    stores: int
    customers: int
    products: int
    vouchers: int
    outside_vouchers: int
    institution_funds_fen: int
    operators: list[SampleOperator]
    sign_in_customers: list[SampleCustomer]
    own_codes: list[SampleCode]
    outside_codes: list[SampleCode]


async def load_sample(
    pool: Pool,
    keyring: Keyring,
    *,
    seed: int,
    stores: int,
    customers: int,
    vouchers: int,
    outside_seed_file: Path,
    now: datetime,
) -> SampleSummary:
    """Fill an empty database with the sample of a seed, in one transaction; `vouchers` are of our own issue.

    Writes `outside_seed_file`, one JSON object a line, for the sandbox that plays the other issuers.
    Raises `SampleRefused` when the catalogue already holds a product.
    """
    offers, shops = make_offers(seed), make_shops(seed, stores)
    async with transaction(pool) as db:
        if (await load_catalogue(db)).products:
            raise SampleRefused("there are products already: the sample goes into an empty database only")
        await _load_offers_and_shops(db, offers, shops, now=now)
        operators = await make_operators(seed, shops)
        await enrol_staff(db, keyring, [operator for operator, _ in operators], now=now)
        people, holder_ids = await _load_people(db, keyring, seed, customers, now=now)
        own_codes = await _load_vouchers(db, keyring, seed, vouchers, holder_ids, now=now)
        funding = postings.fund_institution(
            Names(seed, "fnd").next(), institution=CUSTODIAN, amount_fen=FUNDS_FEN
        )
        await post(db, funding, now=now)
        per_product = max(OUTSIDE_AT_LEAST, min(vouchers // OUTSIDE_SHARE, OUTSIDE_AT_MOST))
        outside_count, outside = write_outside_vouchers(outside_seed_file, seed, per_product, now=now)
    products = {product.id: product for product in offers.products}
    return SampleSummary(
        stores=stores,
        customers=customers,
        products=len(products),
        vouchers=vouchers,
        outside_vouchers=outside_count,
        institution_funds_fen=FUNDS_FEN,
        operators=[operator for _, operator in operators],
        sign_in_customers=people,
        own_codes=own_codes,
        outside_codes=[
            SampleCode(
                product=products[voucher.product].zh,
                legal_class=products[voucher.product].legal_class,
                code=voucher.code,
                face_fen=voucher.face_fen,
                expires_at=voucher.expires_at,
            )
            for voucher in outside
        ],
    )


async def _load_offers_and_shops(db: Db, offers: Offers, shops: Shops, *, now: datetime) -> None:
    await enrol_catalogue(db, issuers=offers.issuers, brands=offers.brands, products=offers.products, now=now)
    await enrol_places(
        db,
        regions=[division.region for division in divisions().values()],
        merchants=shops.merchants,
        stores=shops.stores,
        desks=shops.desks,
        now=now,
    )


async def _load_people(
    db: Db, keyring: Keyring, seed: int, count: int, *, now: datetime
) -> tuple[list[SampleCustomer], list[str]]:
    """The people to sign in as, who own the companies, and the ids of everyone who is verified."""
    verified_ids: list[str] = []
    first: list[SampleCustomer] = []
    for chunk in _chunks(make_customers(seed, count, now=now)):
        enrolled = await enrol_customers(db, keyring, chunk)
        for ids, row in zip(enrolled, chunk, strict=True):
            if row.person.real_name:
                verified_ids.append(ids.customer_id)
            if len(first) < SIGN_IN_SAMPLES:
                first.append(SampleCustomer(id=ids.customer_id, phone=row.person.phone))
    for position, company in enumerate(make_companies(seed)):
        owner = first[position % len(first)]
        enterprise = await register_enterprise(
            db, credit_code=company.credit_code, name=company.name, now=now
        )
        await put_member(db, enterprise_id=enterprise.id, customer_id=owner.id, role=MemberRole.OWNER)
        if owner.enterprise_id is None:
            first[position] = msgspec.structs.replace(
                owner, enterprise_id=enterprise.id, enterprise=enterprise.name
            )
    return first, verified_ids


async def _load_vouchers(
    db: Db,
    keyring: Keyring,
    seed: int,
    count: int,
    holder_ids: list[str],
    *,
    now: datetime,
) -> list[SampleCode]:
    """The first vouchers of each product that whoever bears them may offer, in the order of the products."""
    throw = dice(seed, "holders")
    to_try: dict[str, list[SampleCode]] = {}
    for chunk in _chunks(own_vouchers(seed, count, now=now)):
        sealed = sealed_for_registry(keyring, chunk, throw, holder_ids)
        await enrol_vouchers(db, sealed, now=now)
        for plain, voucher in zip(chunk, sealed, strict=True):
            shown = to_try.setdefault(plain.product.id, [])
            if voucher.holder_id is None and len(shown) < CODES_TO_TRY_OF_EACH:
                shown.append(
                    SampleCode(
                        product=plain.product.zh,
                        legal_class=plain.product.legal_class,
                        code=plain.code,
                        face_fen=plain.face_fen,
                        expires_at=plain.expires_at,
                    )
                )
    return [code for _, codes in sorted(to_try.items()) for code in codes]


def _chunks(things: Iterable[Thing]) -> Iterator[list[Thing]]:
    rest = iter(things)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
