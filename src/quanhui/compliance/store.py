"""The book of policies, read whole."""

from quanhui.base.cached import Cached
from quanhui.base.db import Reader, load_queries
from quanhui.compliance.rules import Method, Policy, PolicyBook, policy_book

queries = load_queries(__file__)


async def load_policies(db: Reader, _version: int = 0) -> PolicyBook:
    return policy_book(
        [
            Policy(**{**dict(row), "methods": frozenset(map(Method, row["methods"]))})
            for row in await queries.read_policies(db)
        ]
    )


def cached_policies() -> Cached[PolicyBook]:
    """The book of policies as a process keeps it."""
    return Cached("compliance", load_policies)
