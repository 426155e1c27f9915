"""Reconciliation 对账: what a channel says moved, what we instructed, and what the books say, line by line.

The bill of each Shanghai day is fetched once it is ready and kept. Legs of custody in the ledger and
lines of the bill that are equal, and that our own record confirms, are ticked off against each other; what
is left over is a *difference* 差错 with a case. A case is found once, stands in suspense in the books, closes
by itself when a later bill or posting explains it, and otherwise needs two people before it must be closed.

Beside that, a comparison of books and mirror runs all the time. On a difference it stops payouts, and payouts
only, until a person lifts the stop.
"""
