"""The counter: sellers who come at the same moment are served in one transaction."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from quanhui.base.access import Actor
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.web import Commands, ProblemView
from quanhui.buyback import store
from quanhui.buyback.acceptance import Acceptance, PayoutChoice, accept_quotes
from quanhui.buyback.offer import Offered, sell_vouchers
from quanhui.buyback.rules import OrderState
from quanhui.buyback.terms import Terms
from quanhui.buyback.views import OrderView, order_view, rejection_view

CREATED = 201


class Offering(Struct, frozen=True):
    """What is offered, on which terms."""

    terms: Terms
    offered: Offered


class Accepting(Struct, frozen=True):
    """Who accepts which quote, on which terms."""

    actor: Actor
    terms: Terms
    order_id: str
    quote_id: str
    choice: PayoutChoice


class Counter:
    """One a process. What a set is made of came within moments, so the newest terms are those of all."""

    def __init__(self) -> None:
        self.sell: Commands[Offering, OrderView | ProblemView] = Commands(_sell, status=_status_of)
        self.accept: Commands[Accepting, OrderView] = Commands(_accept)


async def _sell(db: Db, offerings: Sequence[Offering], now: datetime) -> list[OrderView | ProblemView]:
    terms = offerings[-1].terms
    orders = await sell_vouchers(db, terms, [each.offered for each in offerings], now=now)
    return [
        rejection_view(order) if order.state is OrderState.REJECTED else order_view(order, terms.catalogue)
        for order in orders
    ]


async def _accept(db: Db, accepting: Sequence[Accepting], now: datetime) -> list[OrderView]:
    """Accept quotes of orders that are their actors' own. Raises as `accept_quotes`, or `NotFound`."""
    orders = await store.lock_orders(db, [each.order_id for each in accepting])
    acceptances = []
    for each in accepting:
        order = orders.get(each.order_id)
        each.actor.require_owner("buyback.sell", order.seller_id if order else None)
        if order is None:
            raise NotFound
        acceptances.append(Acceptance(order, each.quote_id, each.choice))
    terms = accepting[-1].terms
    accepted = await accept_quotes(db, terms, acceptances, now=now)
    return [order_view(order, terms.catalogue) for order in accepted]


def _status_of(view: OrderView | ProblemView) -> int:
    return view.status if isinstance(view, ProblemView) else CREATED
