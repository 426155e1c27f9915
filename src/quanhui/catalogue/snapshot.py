"""The whole catalogue in memory: thousands of rows that change rarely and are asked for all the time."""

from collections.abc import Iterable, Mapping
from itertools import islice
from operator import attrgetter
from types import MappingProxyType

from quanhui.base.cached import Cached
from quanhui.base.db import Reader
from quanhui.catalogue.codes import Candidate, Recogniser
from quanhui.catalogue.rules import Brand, Category, Issuer, LegalClass, Product, ProductStatus
from quanhui.catalogue.store import read_brands, read_categories, read_issuers, read_products


class Catalogue:
    """An immutable picture of the catalogue. Looking things up costs no query.

    The recogniser knows active products only; the mappings hold every product, since vouchers of a
    retired one live on.
    """

    def __init__(
        self,
        *,
        categories: Iterable[Category],
        issuers: Iterable[Issuer],
        brands: Iterable[Brand],
        products: Iterable[Product],
    ) -> None:
        self.categories: Mapping[str, Category] = MappingProxyType({c.code: c for c in categories})
        self.issuers: Mapping[str, Issuer] = MappingProxyType({issuer.id: issuer for issuer in issuers})
        self.brands: Mapping[str, Brand] = MappingProxyType({brand.id: brand for brand in brands})
        self.products: Mapping[str, Product] = MappingProxyType({p.id: p for p in products})
        self._newest_first = sorted(self.products.values(), key=attrgetter("id"), reverse=True)
        self._recogniser = Recogniser(
            (product.id, product.code_format)
            for product in self.products.values()
            if product.status is ProductStatus.ACTIVE
        )

    def find(
        self,
        *,
        category: str | None = None,
        issuer_id: str | None = None,
        legal_class: LegalClass | None = None,
        text: str | None = None,
        cursor: str | None = None,
        limit: int,
    ) -> list[Product]:
        """Products that match every filter given, newest first; `text` is part of a name."""
        wanted = text.casefold() if text else ""
        matching = (
            product
            for product in self._newest_first
            if (cursor is None or product.id < cursor)
            and category in (None, product.category)
            and issuer_id in (None, product.issuer_id)
            and legal_class in (None, product.legal_class)
            and (not wanted or wanted in self._names_of(product))
        )
        return list(islice(matching, limit))

    def issuer_of(self, product_id: str) -> Issuer:
        """The issuer of a product. Raises `KeyError` for a product that is not in the catalogue."""
        return self.issuers[self.products[product_id].issuer_id]

    def recognise(self, text: str) -> list[Candidate]:
        """Active products that a text may be a code of, with the code it spells; best first."""
        return self._recogniser.candidates(text)

    def _names_of(self, product: Product) -> str:
        brand = self.brands[product.brand_id]
        return f"{product.zh} {product.en} {brand.zh} {brand.en}".casefold()


async def load_catalogue(db: Reader) -> Catalogue:
    """Read the whole catalogue."""
    return Catalogue(
        categories=await read_categories(db),
        issuers=await read_issuers(db),
        brands=await read_brands(db),
        products=await read_products(db),
    )


class CatalogueCache(Cached[Catalogue]):
    """The catalogue of a process, at most a second behind the database."""

    def __init__(self) -> None:
        super().__init__("catalogue", lambda db, _version: load_catalogue(db))

    def look_again(self) -> None:
        """Make the next caller look for changes: this process has just made one."""
        self._looked_at = None
