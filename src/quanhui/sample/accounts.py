"""Sample operators, and what a newcomer is told to sign in with. For development only."""

import msgspec
from argon2 import PasswordHasher

from quanhui.places import Store
from quanhui.sample.dice import dice
from quanhui.sample.people import GIVEN, SURNAMES, totp_secret
from quanhui.sample.shops import Shops
from quanhui.staff import NewOperator, Passwords

CLERKS, MANAGERS = 20, 5

HEADQUARTERS = ("administrator", "operations", "risk_officer", "finance", "compliance", "auditor")
"""One operator for each of these roles, with the role as login."""


class SampleOperator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator to sign in as: the same password for all, a TOTP secret for each."""

    login: str
    password: str
    totp_secret: str
    role: str
    store: str | None = None


async def make_operators(seed: int, shops: Shops) -> list[tuple[NewOperator, SampleOperator]]:
    """One for each role at headquarters, then clerks and managers of the first stores with a desk."""
    throw = dice(seed, "staff")
    password = f"sample-password-{seed}"
    password_hash = await Passwords(PasswordHasher()).hash(password)
    stores = {store.id: store for store in shops.stores}
    with_desk = [stores[desk.store_id] for desk in shops.desks]
    posts: list[tuple[str, str, Store | None]] = [(role, role, None) for role in HEADQUARTERS]
    posts += [(f"clerk{n}", "desk_clerk", store) for n, store in enumerate(with_desk[:CLERKS], 1)]
    posts += [(f"manager{n}", "store_manager", store) for n, store in enumerate(with_desk[:MANAGERS], 1)]
    posts.append(("merchant1", "merchant_operator", None))
    group_id = shops.merchants[0].id
    operators = []
    for login, role, store in posts:
        secret = totp_secret(throw)
        operator = NewOperator(
            login=login,
            name=throw.choice(SURNAMES) + throw.choice(GIVEN),
            password_hash=password_hash,
            totp_secret=secret,
            roles=(role,),
            store_id=store.id if store else None,
            merchant_id=group_id if store or role == "merchant_operator" else None,
        )
        told = SampleOperator(
            login=login,
            password=password,
            totp_secret=secret,
            role=role,
            store=store.zh if store else None,
        )
        operators.append((operator, told))
    return operators
