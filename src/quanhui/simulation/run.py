"""The scheduler: batches of orders, each lived through from the first call to the last bill."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from quanhui import customers, ledger, settlement
from quanhui.base import outbox
from quanhui.base.access import Actor, ActorKind
from quanhui.base.check_digits import id_number_check
from quanhui.base.clock import local_day
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.base.signing import BadSignature, verify
from quanhui.ledger import BoughtLine, postings
from quanhui.settlement import CallbackEvents, Institution, InstitutionEvent, Payout, State
from quanhui.simulation.channel import SECRET, Dice, FakeChannel, Message

BEGINNING = datetime(2027, 1, 1, 4, tzinfo=UTC)
SELLERS = 50
BATCH = 5_000
BATCH_LASTS = timedelta(days=5)
FINE, COARSE = timedelta(seconds=20), timedelta(minutes=15)
FINE_UNTIL, AT_REST = timedelta(minutes=20), timedelta(hours=56)
PERSON_LOOKS = timedelta(hours=24)
MOST_AT_ONCE = 1_000_000
SUBSCRIBER = "simulation"
PERSON = Actor(kind=ActorKind.STAFF, id="opr_simulation", grants={})
UNDER_WAY = (State.CREATED, State.APPROVED, State.SUBMITTED, State.UNKNOWN, State.AWAITING_PAYEE)
PAGE = 1_000


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation came to. `trace_hash` is the same whenever the seed is."""

    payouts: int
    money_moved_fen: int
    double_payments: int
    stuck_without_case: int
    differences_injected: int
    differences_found: int
    false_differences: int
    trace_hash: str

    @property
    def all_well(self) -> bool:
        """Nothing paid twice, nothing stuck, every difference found and no other."""
        wrong = self.double_payments + self.stuck_without_case + self.false_differences
        return wrong == 0 and self.differences_found == self.differences_injected


class _Tally(msgspec.Struct):
    """What was counted so far."""

    stuck: int = 0
    found: int = 0
    false: int = 0
    false_alarms: int = 0


class _World:
    """The database, the channel and the clock of one simulation."""

    def __init__(self, pool: Pool, keyring: Keyring, seed: int) -> None:
        self.pool, self.keyring = pool, keyring
        self.dice = Dice(seed)
        self.channel = FakeChannel(self.dice)
        self.institution = cast("Institution", self.channel)
        self.channels = {settlement.CUSTODIAN: self.institution}
        self.tally = _Tally()
        self.digest = hashlib.blake2b(digest_size=16)
        self.people: list[tuple[str, str]] = []

    def hash_trace(self, more: Sequence[str] = ()) -> None:
        """Take what happened since into the hash, in an order of its own."""
        for line in sorted([*self.channel.trace, *more]):
            self.digest.update(line.encode())
        self.channel.trace.clear()


async def simulate(pool: Pool, keyring: Keyring, *, payouts: int, seed: int) -> Outcome:
    """Live through so many payouts on a migrated, empty database, and count what went wrong."""
    world = _World(pool, keyring, seed)
    async with transaction(pool) as db:
        await outbox.set_routes(db, [(settlement.TRANSFER_DUE, SUBSCRIBER)])
        world.people = await _sellers(db, keyring)
    for number, first in enumerate(range(0, payouts, BATCH)):
        begin = BEGINNING + number * BATCH_LASTS
        opened = await _open(world, first, min(BATCH, payouts - first), now=begin)
        await _live(world, begin)
        await _count_at_rest(world, opened)
        await _reconcile(world, begin)
    injected = len(world.channel.injected)
    return Outcome(
        payouts=payouts,
        money_moved_fen=world.channel.moved_fen,
        double_payments=sum(1 for count in world.channel.standing.values() if count > 1),
        stuck_without_case=world.tally.stuck,
        differences_injected=injected,
        differences_found=world.tally.found,
        false_differences=world.tally.false + world.tally.false_alarms,
        trace_hash=world.digest.hexdigest(),
    )


async def _sellers(db: Db, keyring: Keyring) -> list[tuple[str, str]]:
    people = []
    for number in range(SELLERS):
        stem = f"51010719900101{number:03}"
        person = customers.Person(
            phone=f"199{number:08}", real_name="仿真", id_number=stem + id_number_check(stem)
        )
        payees = ((customers.PayeeKind.SANDBOX, f"wallet{number}"),)
        people.append(customers.Enrolment(person=person, created_at=BEGINNING, payees=payees))
    return [(each.customer_id, each.payee_ids[0]) for each in await customers.enrol(db, keyring, people)]


async def _open(world: _World, first: int, count: int, *, now: datetime) -> list[Payout]:
    """Owe sellers for orders, and open their payouts as the story does."""
    jobs, owed = [], []
    for number in range(first, first + count):
        seller_id, payee_id = world.people[number % SELLERS]
        order_id = f"ord_sim{number:09}"
        net_fen = 10_00 + world.dice.throw(1_000_00, "amount", number)
        lines = [BoughtLine("vpr_simulation", net_fen)]
        owed += postings.buyback_accepted(
            order_id, seller_id=seller_id, lines=lines, fee_fen=0, net_fen=net_fen
        )
        payload = {
            "order_id": order_id,
            "seller_id": seller_id,
            "payee_id": payee_id,
            "method": "cash",
            "net_fen": net_fen,
            "store_id": None,
            "voucher_ids": [],
            "hold_reason": None,
        }
        jobs.append(Job(number, "buyback.secured", order_id, payload, 0))
    async with transaction(world.pool) as db:
        await ledger.post(db, owed, now=now)
        await settlement.open_payouts(db, jobs, now=now)
        await settlement.open_payouts(db, jobs, now=now)
    return await _payouts(world, first, count)


async def _payouts(world: _World, first: int, count: int) -> list[Payout]:
    """The payouts of a batch, in the order of their orders; the channel learns which number is whose."""
    found: list[Payout] = []
    cursor: str | None = None
    async with world.pool.acquire() as db:
        while len(found) < count:
            page = await settlement.list_payouts(db, cursor=cursor, limit=min(PAGE, count - len(found)))
            found += page
            cursor = page[-1].id
    found.sort(key=lambda payout: payout.order_id)
    for number, payout in enumerate(found, first):
        assert payout.order_id == f"ord_sim{number:09}"
        world.channel.names[payout.id.removeprefix("pot_")] = f"{number:09}"
    return found


async def _live(world: _World, begin: datetime) -> None:
    """Turn the clock until nothing more can happen."""
    elapsed = timedelta()
    while elapsed <= AT_REST:
        now = begin + elapsed
        world.channel.advance(now)
        await _hear(world, world.channel.callbacks(now), now=now)
        await settlement.query_unknown(world.pool, world.channels, limit=MOST_AT_ONCE, now=now)
        async with transaction(world.pool) as db:
            await settlement.retry_failed(db, limit=MOST_AT_ONCE, now=now)
            await settlement.wake_waiting(db, now=now)
            await settlement.release_capped(db, now=now)
        await _send(world, now=now)
        if elapsed == PERSON_LOOKS:
            await _look(world, now=now)
        world.hash_trace()
        elapsed += FINE if elapsed < FINE_UNTIL else COARSE


async def _hear(world: _World, messages: Sequence[Message], *, now: datetime) -> None:
    events: list[InstitutionEvent] = []
    for message in messages:
        try:
            told = _verified(message)
        except BadSignature:
            world.channel.trace.append(f"{now.isoformat()} refused {message.headers['webhook-id']}")
            continue
        events += told.events
    if events:
        async with transaction(world.pool) as db:
            await settlement.take_events(db, events, now=now)


def _verified(message: Message) -> CallbackEvents:
    message_id = verify(SECRET, message.headers, now=message.at, body=message.body)
    told: Any = msgspec.json.decode(message.body)
    return CallbackEvents(
        message_id=message_id, events=msgspec.convert(told["events"], tuple[InstitutionEvent, ...])
    )


async def _send(world: _World, *, now: datetime) -> None:
    """Carry what is due to the sender; each job is told twice, as after a lost lease."""
    async with transaction(world.pool) as db:
        batch = await outbox.take(db, SUBSCRIBER, limit=MOST_AT_ONCE, now=now)
    if batch is None:
        return
    for _ in range(2):
        await settlement.send_transfers(world.pool, world.channels, world.keyring, batch.jobs, now=now)
    async with transaction(world.pool) as db:
        await batch.done(db)


async def _look(world: _World, *, now: datetime) -> None:
    """A person looks once a day: what failed for a reason that time does not cure is tried once more."""
    async with transaction(world.pool) as db:
        failed = await settlement.list_payouts(db, state=State.FAILED, limit=MOST_AT_ONCE)
        again = [
            payout.id
            for payout in failed
            if payout.flag is None and payout.retry_at is None and payout.attempts == 1
        ]
        if again:
            await settlement.retry_payouts(db, again, PERSON, now=now)
        world.tally.false_alarms += await settlement.watch_books(db, now=now)


async def _count_at_rest(world: _World, opened: Sequence[Payout]) -> None:
    async with world.pool.acquire() as db:
        after = await settlement.find_payouts(db, [payout.id for payout in opened])
    ends = []
    for payout in opened:
        end = after[payout.id]
        if end.state in UNDER_WAY and end.flag is None:
            world.tally.stuck += 1
        ends.append(f"end {end.order_id} {end.state} {end.flag} {end.failure} {end.attempts}")
    world.hash_trace(ends)


async def _reconcile(world: _World, begin: datetime) -> None:
    """Fetch and compare the bill of each day that the batch touched, as the clock of the story does."""
    now = begin + BATCH_LASTS - timedelta(hours=1)
    day, lines = local_day(begin), []
    while day < local_day(now):
        for case in await settlement.run_day(
            world.pool, settlement.CUSTODIAN, world.institution, day, now=now
        ):
            right = (case.kind, case.out_no) in world.channel.injected
            world.tally.found += right
            world.tally.false += not right
            name = case.out_no if case.out_no.startswith("extra") else world.channel.name_of(case.out_no)
            lines.append(f"case {day} {case.class_} {case.kind} {name} {case.delta_fen}")
        day += timedelta(days=1)
    async with transaction(world.pool) as db:
        world.tally.false_alarms += await settlement.watch_books(db, now=now)
    world.hash_trace(lines)
