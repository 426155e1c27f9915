"""Redemption 核销: a voucher is spent in a store, and the store's merchant is owed for it.

A clerk shows the code to the till. `redeem` finds the voucher, checks that it may be spent in this store,
sets the amount aside in the registry and captures it, all in one transaction: twenty tills at once cannot
spend it twice. Whatever is wrong with a code, the answer looks the same; why is kept inside, and who has
too many codes refused has to wait.

Vouchers of our own issue are done with that. For those of an outside issuer the amount is set aside first and
the issuer asked after the commit, under the redemption's own id, so that asking again draws nothing twice. A
lost reply leaves the redemption waiting; `sweep_authorisations` has it asked again until its end is known,
and lets go of amounts that nobody captured in time.

`reverse` gives back at most what was captured, to the same voucher, as long as the voucher is still with the
one who spent it. What merchants are owed for all this is drawn up and paid in `redemption.merchants`.
"""

from quanhui.redemption.actions import (
    CAPTURED,
    OUTCOME_UNKNOWN,
    Presented,
    authorise,
    capture,
    check,
    conclude,
    find_redemptions,
    mark_settled,
    redeem,
    resume,
    sweep_authorisations,
    void,
)
from quanhui.redemption.errors import (
    AmountTooHigh,
    NotAuthorised,
    NotReversible,
    TillReferenceUsed,
    VoucherNotUsable,
    WholeValueOnly,
)
from quanhui.redemption.merchants.drawing import (
    STATEMENT_DUE,
    add_claims,
    draw_statements,
    release_statements,
)
from quanhui.redemption.merchants.rules import Claim, ClaimKind
from quanhui.redemption.recognition import Usable
from quanhui.redemption.reversals import (
    REVERSAL_WANTED,
    REVERSED,
    conclude_reversals,
    find_reversals,
    reversals_of,
    reverse,
)
from quanhui.redemption.rules import (
    ASK_AGAIN_AFTER,
    AUTHORISED_FOR,
    MACHINES,
    Redemption,
    Reversal,
    ReversalState,
    State,
    Till,
)

__all__ = [
    "ASK_AGAIN_AFTER",
    "AUTHORISED_FOR",
    "CAPTURED",
    "MACHINES",
    "OUTCOME_UNKNOWN",
    "REVERSAL_WANTED",
    "REVERSED",
    "STATEMENT_DUE",
    "AmountTooHigh",
    "Claim",
    "ClaimKind",
    "NotAuthorised",
    "NotReversible",
    "Presented",
    "Redemption",
    "Reversal",
    "ReversalState",
    "State",
    "Till",
    "TillReferenceUsed",
    "Usable",
    "VoucherNotUsable",
    "WholeValueOnly",
    "add_claims",
    "authorise",
    "capture",
    "check",
    "conclude",
    "conclude_reversals",
    "draw_statements",
    "find_redemptions",
    "find_reversals",
    "mark_settled",
    "redeem",
    "release_statements",
    "resume",
    "reversals_of",
    "reverse",
    "sweep_authorisations",
    "void",
]
