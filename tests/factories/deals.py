"""What a buyback needs: a small catalogue, issuers who answer, and sellers' vouchers."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import msgspec
from factories.vouchers import a_voucher

from quanhui import buyback, vouchers
from quanhui.base import outbox
from quanhui.base.db import Db, Pool, Reader, transaction
from quanhui.base.http import NoAnswer
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.buyback import Item, Order, PayoutChoice, Submission, Terms, TermsSource
from quanhui.catalogue import (
    OWN_ALPHABET,
    OWN_REGISTRY,
    BalanceCheck,
    BalanceStatus,
    Brand,
    Capability,
    CatalogueCache,
    CheckAlgorithm,
    CodeFormat,
    Connectors,
    HoldOutcome,
    HoldRequest,
    Issuer,
    LegalClass,
    Product,
    RekeyOutcome,
    Validity,
    enrol,
    make_code,
)
from quanhui.compliance import Method

QUOTE_TTL = timedelta(minutes=10)
LONG_QUOTE_TTL = timedelta(minutes=30)
STORED_VALUE = PayoutChoice(method=Method.STORED_VALUE)
TOPICS = (buyback.ACCEPTED, buyback.TITLE_TRANSFERRED, buyback.SECURED, buyback.CANCELLED)

_random = Random(20261122)
_numbers = itertools.count(1)

_HOLDS = frozenset({Capability.VERIFY, Capability.LOCK})
_CAN = {
    "iss_own": frozenset(Capability),
    "iss_rekeys": _HOLDS | {Capability.REKEY},
    "iss_locks": _HOLDS,
    "iss_tells": frozenset({Capability.VERIFY}),
}
ISSUERS = [
    Issuer(
        id=issuer_id,
        zh="发行方",
        en="Issuer",
        connector=OWN_REGISTRY if issuer_id == "iss_own" else "sandbox",
        base_url_key=None if issuer_id == "iss_own" else "issuer_url",
        capabilities=capabilities,
    )
    for issuer_id, capabilities in _CAN.items()
]
BRAND = Brand(id="brd_test", zh="蓉家福", en="Rongjiafu")


def _own(prefix: str) -> CodeFormat:
    return CodeFormat(
        prefix=prefix, alphabet=OWN_ALPHABET, body_length=13, check=CheckAlgorithm.ISO7064_MOD37_36
    )


def _digits(prefix: str) -> CodeFormat:
    return CodeFormat(prefix=prefix, alphabet="0123456789", body_length=12, check=CheckAlgorithm.LUHN)


def _product(name: str, code_format: CodeFormat, **given) -> Product:
    return Product(
        **{
            "id": f"vpr_{name}",
            "issuer_id": "iss_own",
            "brand_id": BRAND.id,
            "category": "supermarket",
            "zh": "购物卡",
            "en": "Shopping card",
            "legal_class": LegalClass.SINGLE_PURPOSE_BEARER,
            "multi_draw": True,
            "face_values_fen": (100_00,),
            "code_format": code_format,
            "fee_bps": 900,
            "validity": Validity(days_from_issue=365),
            **given,
        }
    )


CARD = _product("card", _own("RJ"))
FEAST = _product("feast", _own("RJ"), category="restaurant", fee_bps=1200)
COUPON = _product("coupon", _own("YH"), legal_class=LegalClass.MARKETING_COUPON, fee_bps=800)
MULTI = _product("multi", _own("DY"), legal_class=LegalClass.MULTI_PURPOSE)
BIG = _product("big", _own("DE"), legal_class=LegalClass.SINGLE_PURPOSE_REGISTERED)
REKEYED = _product("rekeyed", _digits("KD"), issuer_id="iss_rekeys", fee_bps=1000)
LOCKED = _product("locked", _digits("SD"), issuer_id="iss_locks", category="liquor")
TOLD = _product("told", _digits("GZ"), issuer_id="iss_tells")
TWIN = _product("twin", _digits("SS"), issuer_id="iss_rekeys")
OTHER_TWIN = _product("twin2", _digits("SS"), issuer_id="iss_locks")
PRODUCTS = [CARD, FEAST, COUPON, MULTI, BIG, REKEYED, LOCKED, TOLD, TWIN, OTHER_TWIN]


def fresh_code(product: Product) -> str:
    """A well-formed code of a product that nobody has used in this run."""
    return make_code(product.code_format, _random)


@dataclass
class IssuerBooks:
    """An honest issuer: does each change once for its reference. Replies named in `lost` never arrive."""

    checks: dict[str, BalanceCheck] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    done: dict[tuple[str, str], HoldOutcome | RekeyOutcome] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    refuses: set[tuple[str, str]] = field(default_factory=set)

    def issue(self, code: str, expires_at: datetime, *, face_fen: int = 100_00) -> None:
        self.checks[code] = BalanceCheck(
            status=BalanceStatus.KNOWN, face_fen=face_fen, balance_fen=face_fen, expires_at=expires_at
        )

    def spend(self, code: str, amount_fen: int) -> None:
        """At somebody's till."""
        assert code not in self.locks
        was = self.checks[code]
        self.checks[code] = BalanceCheck(
            status=was.status,
            face_fen=was.face_fen,
            balance_fen=was.balance_fen - amount_fen,
            expires_at=was.expires_at,
        )

    async def verify(self, codes: Sequence[str], *, now: datetime) -> list[BalanceCheck]:
        self._answer("verify")
        return [self._check(code, now) for code in codes]

    async def lock(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[HoldOutcome]:
        outcomes = [self._once("lock", request, self._lock, now) for request in requests]
        self._answer("lock")
        return outcomes

    async def unlock(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[HoldOutcome]:
        outcomes = [self._once("unlock", request, self._unlock, now) for request in requests]
        self._answer("unlock")
        return outcomes

    async def rekey(self, requests: Sequence[HoldRequest], *, now: datetime) -> list[RekeyOutcome]:
        outcomes = [self._once("rekey", request, self._rekey, now) for request in requests]
        self._answer("rekey")
        return outcomes

    def _check(self, code: str, now: datetime) -> BalanceCheck:
        check = self.checks.get(code, BalanceCheck(status=BalanceStatus.UNKNOWN))
        status = check.status
        if code in self.locks:
            status = BalanceStatus.LOCKED
        if check.expires_at is not None and now >= check.expires_at:
            status = BalanceStatus.EXPIRED
        return BalanceCheck(
            status=status,
            face_fen=check.face_fen,
            balance_fen=check.balance_fen,
            expires_at=check.expires_at,
        )

    def _once(self, operation, request, perform, now):
        key = (operation, request.reference)
        if key not in self.done:
            expired = operation != "unlock" and self._check(request.code, now).status == "expired"
            refused = expired or (operation, request.code) in self.refuses
            refusal = RekeyOutcome if operation == "rekey" else HoldOutcome
            self.done[key] = refusal(ok=False, reason="void") if refused else perform(request)
        return self.done[key]

    def _lock(self, request: HoldRequest) -> HoldOutcome:
        if self.locks.setdefault(request.code, request.reference) != request.reference:
            return HoldOutcome(ok=False, reason="locked_by_other")
        return HoldOutcome(ok=True)

    def _unlock(self, request: HoldRequest) -> HoldOutcome:
        if self.locks.get(request.code) != request.reference:
            return HoldOutcome(ok=False, reason="not_locked")
        del self.locks[request.code]
        return HoldOutcome(ok=True)

    def _rekey(self, request: HoldRequest) -> RekeyOutcome:
        new_code = fresh_code(REKEYED)
        self.checks[new_code] = self.checks.pop(request.code)
        self.locks.pop(request.code, None)
        return RekeyOutcome(ok=True, new_code=new_code)

    def _answer(self, operation: str) -> None:
        self.asked[operation] += 1
        if self.lost[operation]:
            self.lost[operation] -= 1
            raise NoAnswer(party="issuer")


class Deal:
    """Sells through the verbs as the routes and the worker do, at one instant unless told otherwise."""

    def __init__(self, keyring: Keyring, now: datetime) -> None:
        self.keyring = keyring
        self.now = now
        self.books: dict[str, IssuerBooks] = {issuer.id: IssuerBooks() for issuer in ISSUERS}
        self.connectors = Connectors(self.books.__getitem__)
        self.source = TermsSource(
            keyring, CatalogueCache(), quote_ttl=QUOTE_TTL, long_quote_ttl=LONG_QUOTE_TTL
        )

    async def open(self, db: Db) -> None:
        """Fill the catalogue, and have every fact of the buyback kept for the tests."""
        await enrol(db, issuers=ISSUERS, brands=[BRAND], products=PRODUCTS, now=self.now)
        await outbox.set_routes(db, [(topic, topic) for topic in TOPICS])

    async def terms(self, db: Reader, at: datetime | None = None) -> Terms:
        return await self.source.get(db, at or self.now)

    async def issue(self, db: Db, product: Product = CARD, **given) -> str:
        """A voucher of our own issue in the registry; returns its code."""
        return (await self.issue_many(db, 1, product, **given))[0]

    async def issue_many(self, db: Db, count: int, product: Product = CARD, **given) -> list[str]:
        codes = [fresh_code(product) for _ in range(count)]
        new = [
            a_voucher(self.keyring, code=code, now=self.now, product_id=product.id, **given) for code in codes
        ]
        await vouchers.enrol(db, new, now=self.now)
        return codes

    def issue_outside(self, product: Product = REKEYED, *, days: int = 365, face_fen: int = 100_00) -> str:
        """A voucher in an outside issuer's books; returns its code."""
        code = fresh_code(product)
        self.books[product.issuer_id].issue(code, self.now + timedelta(days=days), face_fen=face_fen)
        return code

    async def sell(
        self, db: Db, *offered: str | Item, seller: str = "cus_1", at: datetime | None = None, **given
    ) -> Order:
        at = at or self.now
        terms = await self.terms(db, at)
        items = [Item(text=each) if isinstance(each, str) else each for each in offered]
        codes = buyback.read_codes(terms, items)
        checks = await buyback.ask_issuers(self.connectors, codes, now=at)
        named = frozenset(number for number, item in enumerate(items, 1) if item.product_id)
        submission = Submission(seller_id=seller, **given)
        what = buyback.Offered(submission=submission, codes=codes, checks=checks, named=named)
        (order,) = await buyback.sell_vouchers(db, terms, [what], now=at)
        return order

    async def accept(
        self, db: Db, order: Order, choice: PayoutChoice = STORED_VALUE, *, at: datetime | None = None
    ) -> Order:
        locked = await buyback.lock_order(db, order.id)
        assert locked is not None
        assert order.quote is not None
        terms = await self.terms(db, at)
        acceptance = buyback.Acceptance(locked, order.quote.id, choice)
        (accepted,) = await buyback.accept_quotes(db, terms, [acceptance], now=at or self.now)
        return accepted

    async def accepted(self, pool: Pool, *offered: str, seller: str = "cus_1") -> Order:
        """An order whose quote was accepted, committed."""
        async with transaction(pool) as db:
            return await self.accept(db, await self.sell(db, *offered, seller=seller))

    async def voucher(self, db: Db, code: str, product: Product = CARD) -> vouchers.Voucher | None:
        """The voucher behind a code, whether the code is alive or dead."""
        fingerprint = vouchers.fingerprint_of(self.keyring, issuer_id=product.issuer_id, code=code)
        found = await vouchers.find_by_fingerprints(db, [fingerprint])
        return found[fingerprint].voucher if found else None


def job_for(order: Order) -> Job:
    """The job that a fact about an order makes."""
    return Job(next(_numbers), "test", order.id, {}, 0)


async def told(db: Reader, topic: str) -> list[dict]:
    """The payloads of the facts told under a topic, oldest first."""
    rows = await db.fetch("SELECT payload FROM base.job WHERE topic = $1 ORDER BY id", topic)
    return [row["payload"] for row in rows]


async def reread(db: Reader, order: Order) -> Order:
    """An order as it is now."""
    return (await buyback.find_orders(db, [order.id]))[0]


async def events_of(db: Reader, order: Order) -> list[tuple[str, str]]:
    """What the evidence log was told about an order, as (voucher, what happened), in order."""
    rows = await db.fetch(
        "SELECT voucher_id, payload FROM evidence.pending WHERE subject = $1 ORDER BY id", order.id
    )
    return [(row["voucher_id"], str(msgspec.json.decode(row["payload"])["kind"])) for row in rows]
