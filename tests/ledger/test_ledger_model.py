"""Random histories of postings, reversals, holds and folds: SQL and a pure model agree after every step."""

import asyncio
import itertools
from collections import Counter
from datetime import UTC, datetime

import asyncpg
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from quanhui.ledger import (
    Capture,
    HoldAsked,
    HoldEnded,
    InsufficientBalance,
    InsufficientHold,
    Status,
    Transfer,
    TransferKeyConflict,
    balances,
    capture,
    fold,
    hold,
    holds_astray,
    post,
    release,
    reverse,
)

NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
CLIENT = ("user_payable:{}a", "user_payable:{}b", "stored_value:{}a", "custody:{}", "issuer_receivable:{}")
PLATFORM = ("inventory:{}p", "inventory:{}q", "loan_principal:{}", "user_receivable:{}")
GUARDED = ("user_payable", "stored_value")

pairs = st.one_of(
    *(st.permutations(book).map(lambda codes: (codes[0], codes[1])) for book in (CLIENT, PLATFORM)),
    st.sampled_from(CLIENT[:3]).map(lambda code: ("custody:{}", code)),
)
asked = st.tuples(st.integers(0, 30), pairs, st.sampled_from([1, 2, 5, 40]))


class Model:
    """The rules of posting in a dozen lines of Python, without a database."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[object, ...]] = {}
        self.balance: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.holds: dict[str, dict[str, object]] = {}
        self.captures: dict[str, str] = {}

    def hold(self, key: str, account: str, amount_fen: int) -> list[str] | type[Exception]:
        if key in self.holds:
            same = (self.holds[key]["account"], self.holds[key]["amount"]) == (account, amount_fen)
            return ["duplicate"] if same else TransferKeyConflict
        if self.balance[account] - self.held[account] < amount_fen:
            return InsufficientBalance
        self.held[account] += amount_fen
        self.holds[key] = {"account": account, "amount": amount_fen, "left": amount_fen, "released": False}
        return ["held"]

    def release(self, key: str) -> list[str] | type[Exception]:
        one = self.holds[key]
        if one["released"]:
            return ["duplicate"]
        if not one["left"]:
            return HoldEnded
        self.held[one["account"]] -= one["left"]
        one.update(left=0, released=True)
        return ["released"]

    def capture(self, held: str, key: str, dst: str, amount_fen: int) -> list[str] | type[Exception]:
        one = self.holds[held]
        content = (one["account"], dst, amount_fen, "paid")
        if key in self.known:
            same = self.known[key] == content and self.captures.get(key) == held
            return ["duplicate"] if same else TransferKeyConflict
        if one["left"] < amount_fen:
            return InsufficientHold
        one["left"] -= amount_fen
        self.held[one["account"]] -= amount_fen
        self.captures[key] = held
        return self.post([(key, *content)])

    def post(self, batch: list[tuple[str, str, str, int, str]]) -> list[Status] | type[Exception]:
        known, balance, statuses = dict(self.known), self.balance.copy(), []
        for key, src, dst, amount_fen, event in batch:
            content = (src, dst, amount_fen, event)
            if key in known:
                if known[key] != content:
                    return TransferKeyConflict
                statuses.append(Status.DUPLICATE)
                continue
            known[key] = content
            balance[src] -= amount_fen
            balance[dst] += amount_fen
            statuses.append(Status.POSTED)
        if any(fen < self.held[code] and code.startswith(GUARDED) for code, fen in balance.items()):
            return InsufficientBalance
        self.known, self.balance = known, balance
        return statuses


class LedgerMachine(RuleBasedStateMachine):
    db: asyncpg.Connection
    runner: asyncio.Runner
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.name = f"x{next(self.numbers)}"

    def run(self, verb):
        async def statuses():
            async with self.db.transaction():
                return [outcome.status for outcome in await verb]

        try:
            return self.runner.run(statuses())
        except (InsufficientBalance, InsufficientHold, HoldEnded, TransferKeyConflict) as refusal:
            return type(refusal)

    @rule(batch=st.lists(asked, min_size=1, max_size=6))
    def post_a_batch(self, batch):
        transfers = [
            Transfer(
                key=f"{self.name}:{n}",
                src=src.format(self.name),
                dst=dst.format(self.name),
                amount_fen=amount_fen,
                event="e",
                subject=self.name,
            )
            for n, (src, dst), amount_fen in batch
        ]
        expected = self.model.post([(t.key, t.src, t.dst, t.amount_fen, t.event) for t in transfers])
        assert self.run(post(self.db, transfers, now=NOW)) == expected

    @precondition(lambda self: self.model.known)
    @rule(data=st.data())
    def reverse_some(self, data):
        keys = data.draw(st.lists(st.sampled_from(sorted(self.model.known)), min_size=1, max_size=3))
        batch = []
        for key in sorted(set(keys)):
            src, dst, amount_fen, _ = self.model.known[key]
            batch.append((f"{key}:reversed", dst, src, amount_fen, "back"))
        expected = self.model.post(batch)
        assert self.run(reverse(self.db, keys, event="back", now=NOW)) == expected

    @rule(n=st.integers(0, 5), account=st.sampled_from(CLIENT[:3]), amount_fen=st.sampled_from([1, 3, 20]))
    def hold_some(self, n, account, amount_fen):
        key, code = f"{self.name}:h{n}", account.format(self.name)
        asked_for = HoldAsked(key=key, account=code, amount_fen=amount_fen, subject=self.name)
        assert self.run(hold(self.db, [asked_for], now=NOW)) == self.model.hold(key, code, amount_fen)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def release_one(self, data):
        key = data.draw(st.sampled_from(sorted(self.model.holds)))
        assert self.run(release(self.db, [key], now=NOW)) == self.model.release(key)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), n=st.integers(0, 9), amount_fen=st.sampled_from([1, 2, 20]))
    def capture_some(self, data, n, amount_fen):
        held = data.draw(st.sampled_from(sorted(self.model.holds)))
        src, key = self.model.holds[held]["account"], f"{self.name}:c{n}"
        codes = [code.format(self.name) for code in CLIENT]
        dst = data.draw(st.sampled_from([code for code in codes if code != src]))
        asked_for = Capture(
            hold=held, key=key, dst=dst, amount_fen=amount_fen, event="paid", subject=self.name
        )
        expected = self.model.capture(held, key, dst, amount_fen)
        assert self.run(capture(self.db, [asked_for], now=NOW)) == expected

    @rule()
    def fold_all(self):
        self.runner.run(fold(self.db, now=NOW))

    @invariant()
    def balances_are_those_of_the_model_and_sum_to_zero(self):
        codes = [code.format(self.name) for code in CLIENT + PLATFORM]
        found = self.runner.run(balances(self.db, codes))
        assert {code: balance.balance_fen for code, balance in found.items() if balance.balance_fen} == {
            code: fen for code, fen in self.model.balance.items() if fen
        }
        assert sum(balance.balance_fen for balance in found.values()) == 0
        held = {code: balance.held_fen for code, balance in found.items() if balance.held_fen}
        assert held == {code: fen for code, fen in self.model.held.items() if fen}
        assert self.runner.run(holds_astray(self.db)) == []


def test_the_ledger_does_what_the_model_does(database_url):
    with asyncio.Runner() as runner:
        LedgerMachine.runner = runner
        LedgerMachine.db = runner.run(asyncpg.connect(database_url))
        try:
            run_state_machine_as_test(
                LedgerMachine,
                settings=settings(max_examples=60, stateful_step_count=25, deadline=None, database=None),
            )
        finally:
            runner.run(LedgerMachine.db.close())
