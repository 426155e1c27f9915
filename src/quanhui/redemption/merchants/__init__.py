"""Merchant settlement 商户结算: what each merchant is owed for a day, agreed with it, and paid.

After midnight in Shanghai `draw_statements` takes every redemption, reversal, handover of goods and campaign
charge of the day that is on no statement yet, and freezes them as the lines of one statement a merchant. Fees
follow the contract of the day of the redemption, and a reversal gives back the fee of what it takes back.

The merchant confirms, or disputes lines with a reason; silence agrees after three days. Finance answers a
dispute and a second person settles it: a correction is one more line. `release_statements` makes what is
agreed due, or carries what comes to nothing or less forward to the merchant's next statement.

The platform does not send these payments itself yet. Money moves in the ledger when it has moved at the bank:
one person records the transfer by the bank's reference, another confirms it, and then the fee and the payment
are posted together. What is taken back after that stands on the next statement.
"""
