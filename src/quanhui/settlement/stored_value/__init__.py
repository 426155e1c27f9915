"""Stored value 储值: what holders have on the issuer's single-purpose card.

A seller may take stored value in place of cash. A top-up beyond the limit of the card rules is refused before
the quote is accepted, and held at the payout if others came in between. Vouchers are paid for in money alone,
so stored value never buys vouchers.
"""
