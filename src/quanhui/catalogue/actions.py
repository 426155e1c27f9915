"""What operators do with the catalogue: add to it, and open or close products."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.catalogue import store
from quanhui.catalogue.errors import CategoryExists, UnknownReference
from quanhui.catalogue.rules import Brand, Category, Issuer, Product, ProductStatus


async def enrol(
    db: Db,
    *,
    categories: Sequence[Category] = (),
    issuers: Sequence[Issuer] = (),
    brands: Sequence[Brand] = (),
    products: Sequence[Product] = (),
    now: datetime,
) -> None:
    """Add many things at once, by COPY.

    Raises `CategoryExists`, or `UnknownReference` when a product names what the catalogue lacks.
    """
    try:
        await store.copy_categories(db, categories)
    except asyncpg.UniqueViolationError as error:
        raise CategoryExists from error
    await store.copy_issuers(db, issuers, now=now)
    await store.copy_brands(db, brands, now=now)
    try:
        await store.copy_products(db, products, now=now)
    except asyncpg.ForeignKeyViolationError as error:
        raise UnknownReference(field=_referring_column(error)) from error


async def set_product_status(db: Db, product_id: str, status: ProductStatus) -> int:
    """Open, suspend or retire a product; returns its new version. Raises `NotFound`."""
    row = await store.queries.set_status(db, id=product_id, status=status)
    if row is None:
        raise NotFound
    version: int = row["version"]
    return version


def _referring_column(error: asyncpg.ForeignKeyViolationError) -> str:
    """`product_issuer_id_fkey` → `issuer_id`."""
    name = str(error.constraint_name)
    return name.removeprefix("product_").removesuffix("_fkey")
