"""Commands under an Idempotency-Key: the same key and body, the same answer; never half of one."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from quanhui.base.access import Actor, ActorKind
from quanhui.base.db import Db, Pool
from quanhui.base.errors import IdempotencyKeyMissing, IdempotencyKeyReused, NotFound
from quanhui.base.web import ANSWERS_KEPT, Call, forget_answers


class Answer(msgspec.Struct, frozen=True):
    number: int


class Verb:
    """Counts its runs; what it wrote shows whether they were committed."""

    def __init__(self, *, fails: int = 0) -> None:
        self.runs = 0
        self._fails = fails

    async def __call__(self, db: Db) -> Answer:
        self.runs += 1
        await db.execute("INSERT INTO base.chore VALUES ($1, now())", f"run {self.runs}")
        if self.runs <= self._fails:
            raise NotFound
        return Answer(self.runs)


@pytest.fixture
async def answers(module_pool: Pool) -> AsyncIterator[Pool]:
    """A database in which nothing was answered yet."""
    yield module_pool
    await module_pool.execute("TRUNCATE base.answer, base.chore")


@pytest.fixture
def call(answers: Pool, now):
    def make(
        key: str | None = "key", *, body: bytes = b"{}", actor_id: str = "cus_1", target: str = "POST /x"
    ):
        actor = Actor(kind=ActorKind.CUSTOMER, id=actor_id, grants={})
        return Call(actor=actor, now=now, pool=answers, target=target, key=key, body=body, device_id=None)

    return make


async def test_the_same_key_and_body_get_the_same_answer_and_the_work_is_done_once(call):
    verb = Verb()
    first = await call().command(verb, status=201)
    again = await call().command(verb, status=500)
    assert (first.status_code, first.content) == (again.status_code, again.content) == (201, b'{"number":1}')
    assert verb.runs == 1
    replayed = await call().replay()
    assert (replayed.status_code, replayed.content) == (201, b'{"number":1}')


async def test_another_body_or_path_under_the_same_key_is_refused(call):
    verb = Verb()
    await call().command(verb)
    for other in (call(body=b"{ }"), call(target="POST /y")):
        with pytest.raises(IdempotencyKeyReused):
            await other.command(verb)
        with pytest.raises(IdempotencyKeyReused):
            await other.replay()
    assert verb.runs == 1


async def test_keys_of_two_people_do_not_meet(call):
    verb = Verb()
    await call().command(verb)
    assert await call(actor_id="cus_2").replay() is None
    answer = await call(actor_id="cus_2").command(verb)
    assert answer.content == b'{"number":2}'


async def test_a_failed_attempt_does_not_poison_the_key_and_leaves_nothing(call, answers: Pool):
    verb = Verb(fails=1)
    with pytest.raises(NotFound):
        await call().command(verb)
    assert await call().replay() is None
    assert await answers.fetchval("SELECT count(*) FROM base.chore") == 0
    assert (await call().command(verb)).content == b'{"number":2}'


async def test_requests_at_once_under_one_key_do_the_work_once_and_all_get_the_answer(call):
    verb = Verb()
    given = await asyncio.gather(*(call().command(verb) for _ in range(10)))
    assert {answer.content for answer in given} == {b'{"number":1}'}
    assert verb.runs == 1


async def test_an_answer_that_holds_a_secret_is_not_kept(call, answers: Pool):
    verb = Verb()
    for run in (1, 2):
        answer = await call().command(verb, keep_answer=False)
        assert answer.content == b'{"number":%d}' % run
    assert await call().replay() is None
    assert await answers.fetchval("SELECT body FROM base.answer") is None
    with pytest.raises(IdempotencyKeyReused):
        await call(body=b"[]").command(verb, keep_answer=False)


async def test_the_status_may_depend_on_what_came_out(call):
    answer = await call().command(Verb(), status=lambda view: 400 + view.number)
    assert (answer.status_code, answer.media_type) == (401, "application/problem+json")


@pytest.mark.parametrize("key", [None, "", "x" * 129, "钥匙", "a\nb"])
async def test_a_command_needs_a_key_of_visible_characters(call, key):
    verb = Verb()
    with pytest.raises(IdempotencyKeyMissing):
        await call(key).command(verb)
    with pytest.raises(IdempotencyKeyMissing):
        await call(key).replay()
    assert verb.runs == 0


async def test_answers_are_kept_for_as_long_as_a_client_may_retry(call, answers: Pool, now):
    await call().command(Verb())
    assert await forget_answers(answers, now=now + ANSWERS_KEPT) == 0
    assert await forget_answers(answers, now=now + 2 * ANSWERS_KEPT) == 1
