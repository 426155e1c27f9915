"""Vouchers that the platform has bought, in stock and on the market."""

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

from factories.vouchers import a_voucher

from quanhui import redistribution, vouchers
from quanhui.base import outbox
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.ids import new_id
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.redistribution import Delivery, Listing, Payment, Price, Purchase, StockedVoucher, tasks

_numbers = itertools.count(1)

FACTS = (
    "redistribution.payment_wanted",
    "redistribution.close_wanted",
    "redistribution.refund_wanted",
    "redistribution.sold",
    "redistribution.purchase_closed",
    "redistribution.payment_mismatched",
    "redistribution.disputed",
    "redistribution.dispute_decided",
)


async def listen(db: Db) -> None:
    """Have every fact of the market kept for a listener of its own name."""
    await outbox.set_routes(db, [(topic, topic) for topic in FACTS])


async def heard(db: Db, topic: str, *, now: datetime) -> list[Job]:
    """The facts told so far that nobody has taken yet."""
    batch = await outbox.take(db, topic, limit=100, now=now)
    return list(batch.jobs) if batch else []


async def bought(
    db: Db,
    keyring: Keyring,
    count: int = 1,
    *,
    now: datetime,
    cost_fen: int = 88_00,
    product_id: str = "vpr_test",
    face_fen: int = 100_00,
    days: int = 365,
) -> Delivery:
    """A buyback order of which the title is secure."""
    order_id = new_id("ord")
    new = [
        a_voucher(
            keyring,
            code=f"QHMARKET{next(_numbers):06}",
            now=now,
            product_id=product_id,
            face_fen=face_fen,
            days=days,
        )
        for _ in range(count)
    ]
    await vouchers.enrol(db, new, now=now)
    claims = [vouchers.Claim(each.id, each.fingerprint, order_id, "cus_seller") for each in new]
    await vouchers.claim(db, claims, now=now)
    await vouchers.take_title(db, {each.id: order_id for each in new})
    return Delivery(
        order_id,
        [
            StockedVoucher(
                voucher_id=each.id,
                product_id=product_id,
                cost_fen=cost_fen,
                face_fen=each.face_fen,
                expires_at=each.expires_at,
            )
            for each in new
        ],
    )


async def on_market(
    db: Db, keyring: Keyring, count: int = 1, *, now: datetime, price_fen: int = 95_00, **given
) -> list[Listing]:
    """Listings for sale at a price."""
    delivery = await bought(db, keyring, count, now=now, **given)
    drafts = await redistribution.take_into_stock(db, [delivery], now=now)
    prices = [Price(draft.id, price_fen) for draft in drafts]
    return await redistribution.list_vouchers(db, prices, now=now)


async def reserved(
    db: Db, keyring: Keyring, count: int = 1, *, now: datetime, buyer_id: str = "cus_buyer", **given
) -> tuple[Purchase, list[Listing]]:
    """A purchase that waits for its payment."""
    listings = await on_market(db, keyring, count, now=now, **given)
    ids = [each.id for each in listings]
    purchase = await redistribution.reserve(db, ids, buyer_id=buyer_id, now=now)
    return purchase, await redistribution.find_listings(db, ids)


async def pay(db: Db, *purchases: Purchase, now: datetime, amount_fen: int | None = None) -> None:
    """The institution says that purchases were paid."""
    payments = [
        Payment(out_no=each.out_no, amount_fen=each.total_fen if amount_fen is None else amount_fen)
        for each in purchases
    ]
    await redistribution.confirm_paid(db, payments, institution=tasks.INSTITUTION, now=now)


async def sold(db: Db, keyring: Keyring, count: int = 1, **given) -> tuple[Purchase, list[Listing]]:
    """A purchase that is paid."""
    purchase, listings = await reserved(db, keyring, count, **given)
    await pay(db, purchase, now=given["now"])
    return await reread(db, purchase), await redistribution.find_listings(db, [e.id for e in listings])


async def lapse(db: Db, purchase: Purchase, *, now: datetime) -> datetime:
    """The time to pay is over and the institution has closed the payment; returns that instant."""
    after = now + redistribution.RESERVE_FOR + timedelta(seconds=1)
    assert await redistribution.sweep_reservations(db, now=after) == 1
    await redistribution.release(db, [purchase.id], now=after)
    return after


async def reread(db: Db, purchase: Purchase) -> Purchase:
    """A purchase as it is now."""
    return (await redistribution.find_purchases(db, [purchase.id]))[0]


async def states(db: Db, listings: Sequence[Listing]) -> list[str]:
    """Where listings stand now."""
    return [each.state for each in await redistribution.find_listings(db, [e.id for e in listings])]


async def custody(db: Db, listings: Sequence[Listing]) -> set[str]:
    """Where their vouchers are now."""
    known = await vouchers.find_vouchers(db, [each.voucher_id for each in listings])
    return {each.custody for each in known.values()}


async def freeze(db: Db, listings: Sequence[Listing]) -> None:
    """Risk control freezes their vouchers."""
    ids = [each.voucher_id for each in listings]
    await vouchers.set_integrity(db, ids, vouchers.Integrity.FROZEN)


async def committed_market(
    pool: Pool, keyring: Keyring, count: int = 1, *, now: datetime, **given
) -> list[Listing]:
    """Listings for sale that every connection sees."""
    async with transaction(pool) as db:
        await listen(db)
        return await on_market(db, keyring, count, now=now, **given)
