"""What a deal is made by at one moment: catalogue, rates, policies, rules, and the keys to the vault."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from quanhui.base.cached import Cached
from quanhui.base.db import Reader
from quanhui.base.keyring import Keyring
from quanhui.catalogue import Catalogue, CatalogueCache
from quanhui.compliance import PolicyBook, cached_policies
from quanhui.risk import RuleBook, cached_rules
from quanhui.valuation import RateTable, cached_rates


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything that a quote depends on besides the vouchers themselves."""

    keyring: Keyring
    catalogue: Catalogue
    rates: RateTable
    policies: PolicyBook
    rules: RuleBook
    quote_ttl: timedelta
    long_quote_ttl: timedelta


class TermsSource:
    """Hands out the terms of the moment; each table is at most a second behind the database.

    A quote is good for `quote_ttl`, and for `long_quote_ttl` where older people are given more time.
    """

    def __init__(
        self,
        keyring: Keyring,
        catalogues: CatalogueCache,
        *,
        quote_ttl: timedelta,
        long_quote_ttl: timedelta,
    ) -> None:
        self.keyring = keyring
        self._quote_ttl = quote_ttl
        self._long_quote_ttl = long_quote_ttl
        self._catalogues = catalogues
        self._rates: Cached[RateTable] = cached_rates()
        self._policies: Cached[PolicyBook] = cached_policies()
        self._rules: Cached[RuleBook] = cached_rules()

    async def get(self, db: Reader, now: datetime) -> Terms:
        """The terms now, usually without a query."""
        return Terms(
            keyring=self.keyring,
            catalogue=await self._catalogues.get(db, now),
            rates=await self._rates.get(db, now),
            policies=await self._policies.get(db, now),
            rules=await self._rules.get(db, now),
            quote_ttl=self._quote_ttl,
            long_quote_ttl=self._long_quote_ttl,
        )
