"""The channels that transfers can go through, by name, with what each takes and costs."""

from collections.abc import Iterator, Mapping

from quanhui.base.accounts import Terms
from quanhui.settlement.gateway import Institution


class Channels(Mapping[str, Institution]):
    """A mapping of channel name to `Institution`, in order of preference; `terms` has the same names."""

    def __init__(self, institutions: Mapping[str, Institution], terms: Mapping[str, Terms]) -> None:
        assert list(institutions) == list(terms), "each channel has its terms"
        self._institutions = dict(institutions)
        self.terms = dict(terms)

    def __getitem__(self, name: str) -> Institution:
        return self._institutions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._institutions)

    def __len__(self) -> int:
        return len(self._institutions)

    def cheapest(self, amount_fen: int) -> list[str]:
        """The channels that take this amount, the cheapest first; among equals, in order of preference."""
        fit = [name for name, terms in self.terms.items() if terms.takes(amount_fen)]
        return sorted(fit, key=lambda name: self.terms[name].fee_fen(amount_fen))
