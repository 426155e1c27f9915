"""Rows of the schema `catalogue` and the types of `rules.py`, both ways."""

from collections.abc import Sequence
from datetime import datetime

from quanhui.base.db import Db, Reader, Row, load_queries
from quanhui.catalogue.codes import CheckAlgorithm, CodeFormat
from quanhui.catalogue.rules import (
    Brand,
    Capability,
    Category,
    Issuer,
    LegalClass,
    Product,
    ProductStatus,
    Validity,
)

queries = load_queries(__file__)

SCHEMA = "catalogue"


async def read_categories(db: Reader) -> list[Category]:
    """Every category."""
    return [Category(**row) for row in await queries.all_categories(db)]


async def read_issuers(db: Reader) -> list[Issuer]:
    """Every issuer."""
    return [
        Issuer(**{**row, "capabilities": frozenset(map(Capability, row["capabilities"]))})
        for row in await queries.all_issuers(db)
    ]


async def read_brands(db: Reader) -> list[Brand]:
    """Every brand."""
    return [Brand(**row) for row in await queries.all_brands(db)]


async def read_products(db: Reader) -> list[Product]:
    """Every product."""
    return [_product(row) for row in await queries.all_products(db)]


async def copy_categories(db: Db, categories: Sequence[Category]) -> None:
    """Add categories by COPY."""
    columns = ("code", "zh", "en")
    records = [(category.code, category.zh, category.en) for category in categories]
    await db.copy_records_to_table("category", schema_name=SCHEMA, columns=columns, records=records)


async def copy_issuers(db: Db, issuers: Sequence[Issuer], *, now: datetime) -> None:
    """Add issuers by COPY."""
    columns = ("id", "zh", "en", "connector", "capabilities", "base_url_key", "created_at")
    records = [(i.id, i.zh, i.en, i.connector, sorted(i.capabilities), i.base_url_key, now) for i in issuers]
    await db.copy_records_to_table("issuer", schema_name=SCHEMA, columns=columns, records=records)


async def copy_brands(db: Db, brands: Sequence[Brand], *, now: datetime) -> None:
    """Add brands by COPY."""
    columns = ("id", "zh", "en", "created_at")
    records = [(brand.id, brand.zh, brand.en, now) for brand in brands]
    await db.copy_records_to_table("brand", schema_name=SCHEMA, columns=columns, records=records)


async def copy_products(db: Db, products: Sequence[Product], *, now: datetime) -> None:
    """Add products by COPY."""
    rows = [{**_columns(product), "created_at": now} for product in products]
    if rows:
        await db.copy_records_to_table(
            "product",
            schema_name=SCHEMA,
            columns=list(rows[0]),
            records=[tuple(row.values()) for row in rows],
        )


def _columns(product: Product) -> dict[str, object]:
    return {
        "id": product.id,
        "issuer_id": product.issuer_id,
        "brand_id": product.brand_id,
        "category": product.category,
        "zh": product.zh,
        "en": product.en,
        "legal_class": product.legal_class,
        "multi_draw": product.multi_draw,
        "face_values_fen": product.face_values_fen,
        "code_prefix": product.code_format.prefix,
        "code_alphabet": product.code_format.alphabet,
        "code_body_length": product.code_format.body_length,
        "code_check": product.code_format.check,
        "fee_bps": product.fee_bps,
        "days_from_issue": product.validity.days_from_issue,
        "last_day": product.validity.last_day,
        "region_codes": product.region_codes,
        "store_ids": product.store_ids,
        "status": product.status,
        "version": product.version,
    }


def _product(row: Row) -> Product:
    return Product(
        id=row["id"],
        issuer_id=row["issuer_id"],
        brand_id=row["brand_id"],
        category=row["category"],
        zh=row["zh"],
        en=row["en"],
        legal_class=LegalClass(row["legal_class"]),
        multi_draw=row["multi_draw"],
        face_values_fen=tuple(row["face_values_fen"]),
        code_format=CodeFormat(
            prefix=row["code_prefix"],
            alphabet=row["code_alphabet"],
            body_length=row["code_body_length"],
            check=CheckAlgorithm(row["code_check"]),
        ),
        fee_bps=row["fee_bps"],
        validity=Validity(days_from_issue=row["days_from_issue"], last_day=row["last_day"]),
        region_codes=tuple(row["region_codes"]),
        store_ids=tuple(row["store_ids"]),
        status=ProductStatus(row["status"]),
        version=row["version"],
    )
