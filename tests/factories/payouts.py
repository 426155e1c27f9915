"""Sellers who are owed money, and the fact that says so."""

from collections.abc import Sequence
from datetime import datetime

from factories.vouchers import a_voucher

from quanhui import customers, ledger, settlement, vouchers
from quanhui.base import outbox
from quanhui.base.check_digits import id_number_check
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.customers import Enrolment, PayeeKind, Person
from quanhui.ledger import BoughtLine, postings

TOPICS = (
    settlement.TRANSFER_DUE,
    settlement.PAYOUT_SUCCEEDED,
    settlement.PAYOUT_FAILED,
    settlement.PAYOUT_HELD,
    settlement.PAYOUT_RETURNED,
    settlement.PAYOUT_FLAGGED,
    settlement.PAYMENT_REPORTED,
    settlement.REFUND_REPORTED,
    settlement.TRANSFER_UNRECOGNISED,
)


async def sellers(
    db: Db, keyring: Keyring, count: int, *, now: datetime, verified: bool = True
) -> list[tuple[str, str]]:
    """Customer and payee ids of new people."""
    first = await db.fetchval("SELECT count(*) FROM customers.customer")
    people = []
    for number in range(first, first + count):
        stem = f"51010719900101{number % 1000:03}" if number < 1000 else f"5101071990{number:07}"
        id_number = stem + id_number_check(stem) if verified else None
        person = Person(phone=f"139{number:08}", real_name="王小明", id_number=id_number)
        account = (PayeeKind.SANDBOX, f"wallet{number}")
        people.append(Enrolment(person=person, created_at=now, payees=(account,)))
    return [(each.customer_id, each.payee_ids[0]) for each in await customers.enrol(db, keyring, people)]


async def secured(
    db: Db, keyring: Keyring, *, seller_id: str, payee_id: str | None, now: datetime, **given
) -> Job:
    """An order whose voucher is ours and whose seller is owed `net_fen` (9,200 unless given)."""
    order_id, net_fen = new_id("ord"), given.pop("net_fen", 92_00)
    voucher = a_voucher(keyring, code=new_id("code"), now=now)
    await vouchers.enrol(db, [voucher], now=now)
    claim = vouchers.Claim(voucher.id, voucher.fingerprint, order_id, seller_id)
    await vouchers.claim(db, [claim], now=now)
    await vouchers.take_title(db, {voucher.id: order_id})
    lines = [BoughtLine("vpr_test", net_fen + 8_00)]
    owed = postings.buyback_accepted(
        order_id, seller_id=seller_id, lines=lines, fee_fen=8_00, net_fen=net_fen
    )
    await ledger.post(db, owed, now=now)
    payload = {
        "order_id": order_id,
        "seller_id": seller_id,
        "payee_id": payee_id,
        "method": "cash",
        "net_fen": net_fen,
        "store_id": None,
        "voucher_ids": [voucher.id],
        "hold_reason": None,
        **given,
    }
    return Job(1, "buyback.secured", order_id, payload, 0)


async def owed_orders(db: Db, keyring: Keyring, count: int, *, now: datetime, **given) -> list[Job]:
    """So many orders of different sellers, secured and not paid yet."""
    people = await sellers(db, keyring, count, now=now)
    return [
        await secured(db, keyring, seller_id=seller, payee_id=payee, now=now, **given)
        for seller, payee in people
    ]


async def opened(db: Db, jobs: Sequence[Job], *, now: datetime) -> list[settlement.Payout]:
    """The payouts that these jobs open, in the order of their jobs."""
    await settlement.open_payouts(db, jobs, now=now)
    return [await payout_of(db, job) for job in jobs]


async def payout_of(db: Db, job: Job) -> settlement.Payout:
    (payout,) = await settlement.list_payouts(db, order_id=job.payload["order_id"], limit=2)
    return payout


async def reread(pool: Pool, payout: settlement.Payout) -> settlement.Payout:
    async with transaction(pool) as db:
        return (await settlement.find_payouts(db, [payout.id]))[payout.id]


async def listen(db: Db) -> None:
    """Have every fact of settlement kept for the tests."""
    await outbox.set_routes(db, [(topic, "test") for topic in TOPICS])


async def told(db: Db, topic: str) -> list[dict]:
    """The payloads of the facts told under a topic, oldest first."""
    rows = await db.fetch("SELECT payload FROM base.job WHERE topic = $1 ORDER BY id", topic)
    return [row["payload"] for row in rows]


def transfer_jobs(*payouts: settlement.Payout) -> list[Job]:
    """The jobs that the facts about these payouts' latest transfers make."""
    numbers = [settlement.out_no_of(payout.id, payout.attempts) for payout in payouts]
    return [Job(i, settlement.TRANSFER_DUE, no, {"out_no": no}, 0) for i, no in enumerate(numbers)]


async def books(db: Db, seller_id: str) -> tuple[int, int]:
    """What the seller is owed and what is on its way, in fen."""
    codes = [postings.user_payable(seller_id), postings.PAYOUT_PENDING]
    found = await ledger.balances(db, codes)
    owed, pending = (found[code].balance_fen if code in found else 0 for code in codes)
    return owed, pending
