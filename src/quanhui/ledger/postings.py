"""What each event of the business posts: one function an event, returning transfers for `post`.

Lines are written debit → credit. A line that crosses the books is two transfers that meet in
`client:clearing` and `platform:clearing`. Keys follow from the subject and the event, so a retry posts
nothing twice; lines of zero are left out. Amounts are fen and never negative.

`payout_pending` is one deferred account, not one a payout: an account that lives a minute would leave a dead
row for every payout, and the subject already names the payout. What its own floor would guard, the key does:
all ends of a payout share one key, so a payout that was confirmed can never be posted as failed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from quanhui.ledger.rules import CLIENT_CLEARING, PLATFORM_CLEARING, Transfer

PAYOUT_PENDING = "payout_pending"
OWN_FUNDS = "own_funds"
FEE_INCOME = "fee_income"
CHANNEL_COST = "channel_cost"
CAMPAIGN_SUBSIDY = "campaign_subsidy"
SUSPENSE = "suspense"
RESALE_REVENUE = "resale_revenue"
COST_OF_GOODS = "cost_of_goods"
RISK_RESERVE = "risk_reserve"
SUSPENSE = "suspense"
UNIDENTIFIED_RECEIPTS = "unidentified_receipts"

Leg: TypeAlias = tuple[str, str, int]


class BoughtLine(msgspec.Struct, frozen=True):
    """Vouchers of one product bought in an order, for `gross_fen` before the fee."""

    product_id: str
    gross_fen: int


class SoldLine(msgspec.Struct, frozen=True):
    """Vouchers of one product sold in a purchase, for `price_fen`; the stock holds them at `cost_fen`."""

    product_id: str
    price_fen: int
    cost_fen: int


def fund_institution(funding_id: str, *, institution: str, amount_fen: int) -> list[Transfer]:
    """The platform moves own money into custody, to pay from: custody → own_funds."""
    return _transfers(funding_id, "institution_funded", _across(custody(institution), OWN_FUNDS, amount_fen))


def own_money_withdrawn(withdrawal_id: str, *, institution: str, amount_fen: int) -> list[Transfer]:
    """The platform takes own money out of custody: own_funds → custody. Refused beyond what is its own."""
    legs = _into_client(OWN_FUNDS, custody(institution), amount_fen)
    return _transfers(withdrawal_id, "own_money_withdrawn", legs)


def buyback_accepted(
    order_id: str, *, seller_id: str, lines: Sequence[BoughtLine], fee_fen: int, net_fen: int
) -> list[Transfer]:
    """We owe a seller for vouchers now ours: inventory → user_payable, user_payable → fee_income.

    `net_fen` is what the seller was promised; gross = fee + net is asserted.
    """
    gross_fen = sum(line.gross_fen for line in lines)
    assert gross_fen == fee_fen + net_fen, (
        f"{order_id}: gross {gross_fen} is not fee {fee_fen} + net {net_fen}"
    )
    stock = _by_product((line.product_id, line.gross_fen) for line in lines)
    payable = user_payable(seller_id)
    return _transfers(
        order_id,
        "buyback_accepted",
        [
            *((inventory(product), PLATFORM_CLEARING, cost_fen) for product, cost_fen in stock),
            (CLIENT_CLEARING, payable, gross_fen),
            *_across(payable, FEE_INCOME, fee_fen),
        ],
    )


def payout_sent(payout_id: str, *, customer_id: str, amount_fen: int) -> list[Transfer]:
    """A payout is about to be instructed: user_payable → payout_pending. Post it before any call outside.

    Another attempt at the same payout posts nothing: the money is pending until the payout ends.
    """
    return _transfers(payout_id, "payout_sent", [(user_payable(customer_id), PAYOUT_PENDING, amount_fen)])


def payout_confirmed(
    payout_id: str, *, institution: str, amount_fen: int, channel_cost_fen: int = 0
) -> list[Transfer]:
    """The institution has paid: payout_pending → custody, channel_cost → own_funds."""
    return [
        *_end_of_payout(payout_id, "payout_confirmed", custody(institution), amount_fen),
        *_transfers(payout_id, "channel_cost_paid", [(CHANNEL_COST, OWN_FUNDS, channel_cost_fen)]),
    ]


def payout_failed(payout_id: str, *, customer_id: str, amount_fen: int) -> list[Transfer]:
    """The payout failed for good, by an answer and not a silence: payout_pending → user_payable."""
    return _end_of_payout(payout_id, "payout_failed", user_payable(customer_id), amount_fen)


def goods_handover(payout_id: str, *, merchant_id: str, amount_fen: int) -> list[Transfer]:
    """The customer took goods instead of money: payout_pending → merchant_settlement."""
    return _end_of_payout(payout_id, "goods_handed_over", merchant_settlement(merchant_id), amount_fen)


def payout_returned(payout_id: str, *, institution: str, customer_id: str, amount_fen: int) -> list[Transfer]:
    """A payout came back after it had succeeded 退票: custody → user_payable."""
    return _transfers(
        payout_id, "payout_returned", [(custody(institution), user_payable(customer_id), amount_fen)]
    )


def stored_value_topup(subject: str, *, customer_id: str, amount_fen: int) -> list[Transfer]:
    """A customer takes what is owed as stored value: user_payable → stored_value."""
    return _transfers(
        subject, "stored_value_topup", [(user_payable(customer_id), stored_value(customer_id), amount_fen)]
    )


def purchase_paid(purchase_id: str, *, institution: str, lines: Sequence[SoldLine]) -> list[Transfer]:
    """A buyer has paid for our vouchers: custody → resale_revenue, cost_of_goods → inventory."""
    price_fen = sum(line.price_fen for line in lines)
    stock = _by_product((line.product_id, line.cost_fen) for line in lines)
    return _transfers(
        purchase_id,
        "purchase_paid",
        [
            *_across(custody(institution), RESALE_REVENUE, price_fen),
            *((COST_OF_GOODS, inventory(product), cost_fen) for product, cost_fen in stock),
        ],
    )


def payment_to_return(
    refund_id: str, *, institution: str, customer_id: str, amount_fen: int
) -> list[Transfer]:
    """A buyer's payment came that buys nothing, and is owed back: custody → user_payable."""
    leg = (custody(institution), user_payable(customer_id), amount_fen)
    return _transfers(refund_id, "payment_to_return", [leg])


def sale_taken_back(refund_id: str, *, customer_id: str, price_fen: int) -> list[Transfer]:
    """A sale is undone and its price owed back: resale_revenue → user_payable. The cost stays spent."""
    legs = [
        (RESALE_REVENUE, PLATFORM_CLEARING, price_fen),
        (CLIENT_CLEARING, user_payable(customer_id), price_fen),
    ]
    return _transfers(refund_id, "sale_taken_back", legs)


def refund_paid(refund_id: str, *, institution: str, customer_id: str, amount_fen: int) -> list[Transfer]:
    """The institution has given a buyer's money back: user_payable → custody."""
    leg = (user_payable(customer_id), custody(institution), amount_fen)
    return _transfers(refund_id, "refund_paid", [leg])


def redemption_captured(
    redemption_id: str, *, issuer_id: str, merchant_id: str, amount_fen: int
) -> list[Transfer]:
    """A voucher was spent, its issuer owes it to the merchant: issuer_receivable → merchant_settlement."""
    leg = (issuer_receivable(issuer_id), merchant_settlement(merchant_id), amount_fen)
    return _transfers(redemption_id, "redemption_captured", [leg])


def redemption_reversed(
    reversal_id: str, *, issuer_id: str, merchant_id: str, amount_fen: int, short_fen: int = 0
) -> list[Transfer]:
    """A redemption was taken back, whole or in part: merchant_settlement → issuer_receivable.

    The subject is the reversal, since parts may be taken back one after another. A merchant that was paid
    already lacks `short_fen` of it and owes that from now on.
    """
    leg = (merchant_settlement(merchant_id), issuer_receivable(issuer_id), amount_fen)
    return _transfers(reversal_id, "redemption_reversed", [leg, _lent(merchant_id, short_fen)])


def merchant_paid(
    statement_id: str, *, institution: str, merchant_id: str, fee_fen: int, net_fen: int, short_fen: int = 0
) -> list[Transfer]:
    """A merchant's statement was paid: merchant_settlement → fee_income, merchant_settlement → custody.

    A fee below zero is one given back. `short_fen` is what reversals since then have left the account short
    of: the merchant owes it from now on.
    """
    account = merchant_settlement(merchant_id)
    fee = _across(account, FEE_INCOME, max(fee_fen, 0))
    given_back = _into_client(FEE_INCOME, account, max(-fee_fen, 0))
    legs = [*fee, *given_back, (account, custody(institution), net_fen), _lent(merchant_id, short_fen)]
    return _transfers(statement_id, "merchant_paid", legs)


def merchant_set_off(statement_id: str, *, merchant_id: str, amount_fen: int) -> list[Transfer]:
    """What a merchant owes is taken out of what it is owed: merchant_settlement → merchant_receivable."""
    leg = (merchant_settlement(merchant_id), merchant_receivable(merchant_id), amount_fen)
    return _transfers(statement_id, "merchant_set_off", [leg])


def merchant_charged(
    charge_id: str, *, merchant_id: str, amount_fen: int, short_fen: int = 0
) -> list[Transfer]:
    """A merchant's share of a campaign: merchant_settlement → campaign_subsidy."""
    legs = [
        *_across(merchant_settlement(merchant_id), CAMPAIGN_SUBSIDY, amount_fen),
        _lent(merchant_id, short_fen),
    ]
    return _transfers(charge_id, "merchant_charged", legs)


def merchant_corrected(
    dispute_id: str, *, merchant_id: str, amount_fen: int, short_fen: int = 0
) -> list[Transfer]:
    """A statement was corrected: suspense → merchant_settlement, or back when the amount is below zero."""
    account = merchant_settlement(merchant_id)
    legs = [
        *_into_client(SUSPENSE, account, max(amount_fen, 0)),
        *_across(account, SUSPENSE, max(-amount_fen, 0)),
        _lent(merchant_id, short_fen),
    ]
    return _transfers(dispute_id, "merchant_corrected", legs)


def difference_found(case_id: str, *, institution: str, delta_fen: int) -> list[Transfer]:
    """An institution holds more or less than the books say, until its case is closed.

    More is a receipt that nobody has claimed: custody → unidentified_receipts. Less is ours to find, and the
    money of others stays whole: suspense → custody.
    """
    if delta_fen > 0:
        legs = [(custody(institution), UNIDENTIFIED_RECEIPTS, delta_fen)]
    else:
        legs = [
            (CLIENT_CLEARING, custody(institution), -delta_fen),
            (SUSPENSE, PLATFORM_CLEARING, -delta_fen),
        ]
    return _transfers(case_id, "difference_found", legs)


def difference_written_off(case_id: str, *, delta_fen: int) -> list[Transfer]:
    """A difference is borne: risk_reserve → suspense; or kept: unidentified_receipts → risk_reserve."""
    if delta_fen > 0:
        legs = _across(UNIDENTIFIED_RECEIPTS, RISK_RESERVE, delta_fen)
    else:
        legs = [(RISK_RESERVE, SUSPENSE, -delta_fen)]
    return _transfers(case_id, "difference_written_off", legs)


def custody(institution: str) -> str:
    """The account of money that an institution holds."""
    return f"custody:{institution}"


def user_payable(customer_id: str) -> str:
    """The account of what a customer is owed."""
    return f"user_payable:{customer_id}"


def stored_value(customer_id: str) -> str:
    """The account of a customer's stored value."""
    return f"stored_value:{customer_id}"


def merchant_settlement(merchant_id: str) -> str:
    """The account of what a merchant is owed."""
    return f"merchant_settlement:{merchant_id}"


def merchant_receivable(merchant_id: str) -> str:
    """The account of what a merchant owes after it was paid."""
    return f"merchant_receivable:{merchant_id}"


def issuer_receivable(issuer_id: str) -> str:
    """The account of what an issuer owes."""
    return f"issuer_receivable:{issuer_id}"


def inventory(product_id: str) -> str:
    """The account of vouchers of one product in stock, at cost."""
    return f"inventory:{product_id}"


def _transfers(
    subject: str, event: str, legs: Sequence[Leg], *, key_event: str | None = None
) -> list[Transfer]:
    assert all(amount_fen >= 0 for _, _, amount_fen in legs), f"{subject}: a negative amount in {event}"
    slot = key_event or event
    return [
        Transfer(
            key=f"{subject}:{slot}:{n}", src=src, dst=dst, amount_fen=amount_fen, event=event, subject=subject
        )
        for n, (src, dst, amount_fen) in enumerate(legs)
        if amount_fen
    ]


def _across(client_src: str, platform_dst: str, amount_fen: int) -> list[Leg]:
    """One line from an account of the client book to one of the platform book."""
    return [(client_src, CLIENT_CLEARING, amount_fen), (PLATFORM_CLEARING, platform_dst, amount_fen)]


def _into_client(platform_src: str, client_dst: str, amount_fen: int) -> list[Leg]:
    """One line from an account of the platform book to one of the client book."""
    return [(platform_src, PLATFORM_CLEARING, amount_fen), (CLIENT_CLEARING, client_dst, amount_fen)]


def _lent(merchant_id: str, short_fen: int) -> Leg:
    """What fills a merchant's account up to nothing, and is owed by the merchant from then on."""
    return (merchant_receivable(merchant_id), merchant_settlement(merchant_id), short_fen)


def _end_of_payout(payout_id: str, event: str, dst: str, amount_fen: int) -> list[Transfer]:
    return _transfers(payout_id, event, [(PAYOUT_PENDING, dst, amount_fen)], key_event="payout_ended")


def _by_product(amounts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Sum per product, so that an order of many vouchers posts one line a product."""
    sums: Counter[str] = Counter()
    for product_id, amount_fen in amounts:
        sums[product_id] += amount_fen
    return list(sums.items())
