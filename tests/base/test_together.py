"""Group commit: what many ask at once is done in sets, and each gets an answer of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from itertools import count

import msgspec
import pytest

from quanhui.base.access import Actor, ActorKind
from quanhui.base.db import Db, Pool
from quanhui.base.errors import IdempotencyKeyReused, NotFound
from quanhui.base.together import SET_LIMIT, Together
from quanhui.base.web import Call, Commands

SLOWLY_S = 0.02


class Work:
    """Doubles numbers, a set at a time; remembers the sets. Refuses one that holds a number below zero."""

    def __init__(self) -> None:
        self.sets: list[list[int]] = []
        self.at_once = 0

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.at_once += 1
        self.sets.append(list(numbers))
        await asyncio.sleep(SLOWLY_S)
        assert self.at_once == 1 or len(numbers) == 1, "two sets at once"
        self.at_once -= 1
        if min(numbers) < 0:
            raise NotFound
        return [2 * number for number in numbers]


def ask(together: Together[int, int], number: int, *names: str):
    return asyncio.create_task(together.ask(number, names=frozenset(names or {f"thing {number}"})))


async def test_a_lone_asker_is_served_at_once_and_those_who_come_meanwhile_together():
    work = Work()
    together = Together(work)
    answers = await asyncio.gather(*(ask(together, number) for number in range(10)))
    assert answers == [2 * number for number in range(10)]
    assert [len(each) for each in work.sets] == [1, 9] or [len(each) for each in work.sets] == [10]


async def test_asks_about_the_same_thing_never_stand_in_one_set_and_keep_their_order():
    work = Work()
    together = Together(work)
    await asyncio.gather(
        ask(together, 0), ask(together, 1, "a"), ask(together, 2, "a", "b"), ask(together, 3, "b")
    )
    for each in work.sets:
        assert len({1, 2} & set(each)) < 2
        assert len({2, 3} & set(each)) < 2
    order = [number for each in work.sets for number in each]
    assert order.index(1) < order.index(2) < order.index(3)


async def test_who_is_at_fault_fails_and_nobody_else():
    together = Together(Work())
    asked = [ask(together, number) for number in (1, -2, 3, -4, 5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) is NotFound for each in answers] == [False, True, False, True, False]
    assert [answers[0], answers[2], answers[4]] == [2, 6, 10]


async def test_a_set_has_a_limit():
    work = Work()
    together = Together(work)
    await asyncio.gather(*(ask(together, number) for number in range(3 * SET_LIMIT)))
    assert max(len(each) for each in work.sets) == SET_LIMIT


async def test_an_asker_who_has_gone_is_not_served():
    work = Work()
    together = Together(work)
    first = ask(together, 1)
    await asyncio.sleep(SLOWLY_S / 4)
    gone = ask(together, 2)
    await asyncio.sleep(0)
    gone.cancel()
    last = ask(together, 3)
    assert await first == 2
    assert await last == 6
    assert 2 not in [number for each in work.sets for number in each]


async def test_one_who_waits_for_a_lock_holds_up_nobody_who_comes_later(monkeypatch):
    monkeypatch.setattr("quanhui.base.together.PATIENCE_S", SLOWLY_S)
    opened = asyncio.Event()

    async def work(numbers: Sequence[int]) -> list[int]:
        if 1 in numbers:
            await opened.wait()
        return list(numbers)

    together = Together(work)
    locked = ask(together, 1)
    assert await asyncio.wait_for(ask(together, 2), 1) == 2
    both = [ask(together, 3, "x"), ask(together, 4)]
    assert await asyncio.wait_for(asyncio.gather(*both), 1) == [3, 4]
    assert not locked.done()
    opened.set()
    assert await locked == 1


async def test_a_set_that_waits_for_a_lock_is_broken_up(monkeypatch):
    monkeypatch.setattr("quanhui.base.together.PATIENCE_S", SLOWLY_S)
    opened, sets = asyncio.Event(), []

    async def work(numbers: Sequence[int]) -> list[int]:
        sets.append(list(numbers))
        await asyncio.sleep(SLOWLY_S / 4)
        if 1 in numbers:
            await opened.wait()
        return list(numbers)

    together = Together(work)
    asked = [ask(together, number) for number in (0, 1, 2, 3)]
    assert await asyncio.wait_for(asyncio.gather(asked[0], *asked[2:]), 1) == [0, 2, 3]
    assert any(len(each) > 1 and 1 in each for each in sets), "1 stood in a set"
    opened.set()
    assert await asked[1] == 1


# ── Commands in sets: each under its own key ──────────────────────────────────────────────────────────────


class Answer(msgspec.Struct, frozen=True):
    number: int


@pytest.fixture
async def answers(module_pool: Pool) -> AsyncIterator[Pool]:
    yield module_pool
    await module_pool.execute("TRUNCATE base.answer, base.chore")


@pytest.fixture
def call(answers: Pool, now):
    def make(key: str, *, body: bytes = b"{}", actor_id: str = "cus_1"):
        actor = Actor(kind=ActorKind.CUSTOMER, id=actor_id, grants={})
        return Call(actor=actor, now=now, pool=answers, target="POST /x", key=key, body=body, device_id=None)

    return make


class Verb:
    """Writes a row for each ask; refuses numbers below zero. Its runs count, committed or not."""

    def __init__(self) -> None:
        self.runs = count(1)

    async def __call__(self, db: Db, asks: Sequence[int], _now: datetime) -> list[Answer]:
        answers = []
        for ask in asks:
            number = next(self.runs)
            await db.execute("INSERT INTO base.chore VALUES ($1, now())", f"ask {ask} run {number}")
            answers.append(Answer(number))
        if min(asks) < 0:
            raise NotFound
        return answers


async def test_every_command_of_a_set_keeps_its_answer_under_its_own_key(call, answers):
    commands = Commands(Verb())
    asked = [commands.do(call(f"key-{n}"), n, about=[str(n)]) for n in range(20)]
    first = await asyncio.gather(*asked)
    again = await asyncio.gather(*(commands.do(call(f"key-{n}"), n, about=[str(n)]) for n in range(20)))
    assert [each.content for each in first] == [each.content for each in again]
    assert await answers.fetchval("SELECT count(*) FROM base.chore") == 20


async def test_a_key_sent_many_times_at_once_is_done_once(call, answers):
    commands = Commands(Verb())
    same = [commands.do(call("key"), 1, about=["1"]) for _ in range(8)]
    others = [commands.do(call(f"key-{n}"), n, about=[str(n)]) for n in range(2, 8)]
    done = await asyncio.gather(*same, *others)
    assert len({each.content for each in done[:8]}) == 1
    assert await answers.fetchval("SELECT count(*) FROM base.chore WHERE name LIKE 'ask 1 %'") == 1


async def test_a_refusal_and_a_key_with_another_body_spoil_no_one_elses_command_and_poison_no_key(
    call, answers
):
    commands = Commands(Verb())
    await commands.do(call("used"), 100, about=["100"])
    asked = [
        commands.do(call("good"), 1, about=["1"]),
        commands.do(call("bad"), -1, about=["-1"]),
        commands.do(call("used", body=b"other"), 2, about=["2"]),
        commands.do(call("fine"), 3, about=["3"]),
    ]
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each).__name__ for each in done] == [
        "Response",
        "NotFound",
        "IdempotencyKeyReused",
        "Response",
    ]
    assert isinstance(done[2], IdempotencyKeyReused)
    kept = await answers.fetch("SELECT key FROM base.answer ORDER BY key")
    assert [row["key"] for row in kept] == ["fine", "good", "used"]
    assert await answers.fetchval("SELECT count(*) FROM base.chore") == 3
