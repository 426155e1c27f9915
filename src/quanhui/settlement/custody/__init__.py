"""Custody 资金存管: what institutions hold by our mirror, and to whom it belongs, for supervisors.

Our own statement from the ledger for any Shanghai day. It shows by institution what is held, by kind what is
owed and what is on its way, what in there is the platform's own, and what is not covered: promised by the
platform as principal and not yet moved to an institution. See docs/adr/0011-no-money-of-others.md.
"""
