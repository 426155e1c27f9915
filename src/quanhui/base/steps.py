"""The grammar of `story.py`: when a fact becomes true, a verb hears it; and what the clock looks after.

A *verb* works in the database only: it runs, and its facts are ticked off, in one transaction. An *errand*
goes outside: it opens transactions of its own before and after the call, and is safe to repeat.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from quanhui.base.db import Db
from quanhui.base.outbox import Job

Verb: TypeAlias = Callable[[Db, Sequence[Job], datetime], Awaitable[object]]
Errand: TypeAlias = Callable[[Any, Sequence[Job], datetime], Awaitable[object]]
DatabaseChore: TypeAlias = Callable[[Db, datetime], Awaitable[int]]
OutsideChore: TypeAlias = Callable[[Any, datetime], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the story. `subscriber` is the queue's name; `alone` gives each fact a run of its own."""

    fact: str
    subscriber: str
    verb: Verb | None = None
    errand: Errand | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Chore:
    """Looked after every so often by one process at a time. Returns how much there was to do."""

    name: str
    every: timedelta
    verb: DatabaseChore | None = None
    errand: OutsideChore | None = None


@dataclass(frozen=True, slots=True)
class When:
    """Reads as a sentence: `When(SECURED).then("settlement.open_payouts", verb)`."""

    fact: str

    def then(self, subscriber: str, verb: Verb) -> Step:
        """A verb hears the fact, many at a time."""
        return Step(self.fact, subscriber, verb=verb)

    def send(self, subscriber: str, errand: Errand) -> Step:
        """An errand is run for many facts at a time."""
        return Step(self.fact, subscriber, errand=errand)

    def send_each(self, subscriber: str, errand: Errand) -> Step:
        """An errand is run for each fact alone, so that one silent party holds up nobody else."""
        return Step(self.fact, subscriber, errand=errand, alone=True)
