"""Group commit for commands: what many ask at the same moment is done in one transaction.

A transaction costs more in round trips and commits than in work. While one set is being done, later askers
gather for the next; nobody waits for company, so a lone asker is a set of one. When a set fails, because of
one of them or because it waits for somebody's lock, each of its askers is tried alone and gets an answer of
its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

SET_LIMIT = 64
PATIENCE_S = 2.0
"""A set that takes longer waits for somebody's lock; whoever comes after it shall not."""

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Asked(Generic[Ask, Answer]):
    ask: Ask
    names: frozenset[str]
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Together(Generic[Ask, Answer]):
    """Does asks of one kind in sets, one set at a time.

    `work` does a set in one transaction, all or none, and answers in order. Asks that share one of the
    `names` that they are given with never stand in the same set.
    """

    def __init__(self, work: Callable[[Sequence[Ask]], Awaitable[Sequence[Answer]]]) -> None:
        self._work = work
        self._waiting: list[_Asked[Ask, Answer]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._running = False

    async def ask(self, ask: Ask, *, names: frozenset[str]) -> Answer:
        """The answer to one ask. Raises what `work` raises for it alone."""
        asked: _Asked[Ask, Answer] = _Asked(ask, names)
        self._waiting.append(asked)
        if not self._running:
            self._running = True
            self._start(self._work_down())
        return await asked.answer

    async def _work_down(self) -> None:
        try:
            while self._waiting:
                await self._do(self._next_set())
        finally:
            self._running = False

    def _next_set(self) -> list[_Asked[Ask, Answer]]:
        taken: list[_Asked[Ask, Answer]] = []
        left: list[_Asked[Ask, Answer]] = []
        names: set[str] = set()
        for asked in self._waiting:
            if asked.answer.done():  # its caller has gone
                continue
            if len(taken) == SET_LIMIT or asked.names & names:
                left.append(asked)
            else:
                taken.append(asked)
            names |= asked.names
        self._waiting = left
        return taken

    async def _do(self, together: list[_Asked[Ask, Answer]]) -> None:
        if len(together) == 1:
            await asyncio.wait([self._start(self._do_alone(together[0]))], timeout=PATIENCE_S)
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                answers = await self._work([asked.ask for asked in together])
        except Exception:  # noqa: BLE001 - it belongs to one of them, who will meet it again alone
            for asked in together:
                self._start(self._do_alone(asked))
        else:
            for asked, answer in zip(together, answers, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(answer)

    async def _do_alone(self, asked: _Asked[Ask, Answer]) -> None:
        try:
            (answer,) = await self._work([asked.ask])
        except Exception as error:  # noqa: BLE001 - raised to the asker
            if not asked.answer.done():
                asked.answer.set_exception(error)
        else:
            if not asked.answer.done():
                asked.answer.set_result(answer)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that belongs to no request: what is bound to the asker's stays with the asker."""
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
