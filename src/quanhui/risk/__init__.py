"""Allow, hold, review or reject 风控, and why.

The deterministic part: limits and velocity by account, device and payee, counted by the hour, and the line
checks that the buyback hands in (format, duplicate, holder of record, issuer status). Rules are data with a
threshold and an outcome; new ones run in shadow first. A decision keeps its whole tree of reasons.
"""

from quanhui.risk.actions import Decision, Submission, assess, assess_payees
from quanhui.risk.rules import Check, KeptDecision, Outcome, PayeeUse, Rule, RuleBook, Tree, judge
from quanhui.risk.store import cached_rules, find_decision, load_rules

__all__ = [
    "Check", "Decision", "KeptDecision", "Outcome", "PayeeUse", "Rule", "RuleBook", "Submission", "Tree",
    "assess", "assess_payees", "cached_rules", "find_decision", "judge", "load_rules",
]  # fmt: skip
