"""What the rules allow 合规: policies as data, by legal class, region and day.

A policy says how vouchers of a legal class may be paid for and up to which face, and cites its clause.
Policies are dated and never edited in place, so "why was this allowed on that day?" has an answer: every
quote carries the version of the book it was made under. Those not yet confirmed by counsel say so.
"""

from quanhui.compliance.rules import Holding, Method, Policy, PolicyBook, policy_book
from quanhui.compliance.store import cached_policies, load_policies
from quanhui.compliance.stored_value import stored_value_room

__all__ = [
    "Holding",
    "Method",
    "Policy",
    "PolicyBook",
    "cached_policies",
    "load_policies",
    "policy_book",
    "stored_value_room",
]
