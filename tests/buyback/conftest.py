import pytest
from factories.deals import Deal

from quanhui.base.db import Db, Pool, transaction
from quanhui.base.keyring import Keyring


@pytest.fixture
async def deal(db: Db, keyring: Keyring, now) -> Deal:
    """A deal inside the test's own transaction."""
    deal = Deal(keyring, now)
    await deal.open(db)
    return deal


@pytest.fixture
async def open_deal(pool: Pool, keyring: Keyring, now) -> Deal:
    """A deal that every connection sees."""
    deal = Deal(keyring, now)
    async with transaction(pool) as db:
        await deal.open(db)
    return deal
