"""State machines are data: a name, and the moves it allows. Any other move is an error.

The same moves stand in the table `base.move`, where a trigger enforces them for every writer; a test
holds the two equal. Verbs ask `may` to answer politely before the database would have to refuse.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec


class Machine(msgspec.Struct, frozen=True):
    """One state machine. `moves` maps each state to the states it may go to."""

    name: str
    moves: Mapping[str, frozenset[str]]

    def may(self, before: str, after: str) -> bool:
        """Whether the table lists this move."""
        return after in self.moves.get(before, frozenset())

    def before(self, after: str) -> list[str]:
        """The states from which one may come to `after`, for a `WHERE state = ANY(...)`."""
        return sorted(before for before, afters in self.moves.items() if after in afters)


def machine(name: str, states: type[StrEnum], moves: Mapping[StrEnum, Iterable[StrEnum]]) -> Machine:
    """Build a machine from its table; raises `ValueError` for a state that the enum does not have."""
    strangers = {*moves, *(after for afters in moves.values() for after in afters)} - set(states)
    if strangers:
        raise ValueError(f"{name}: not states of {states.__name__}: {sorted(strangers)}")
    return Machine(name, {str(before): frozenset(map(str, afters)) for before, afters in moves.items()})
