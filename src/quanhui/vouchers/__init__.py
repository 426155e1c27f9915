"""The registry 券登记簿: which vouchers exist, who holds each, what it is still worth.

A voucher is known by the fingerprint of its code, a keyed HMAC; the code itself lies sealed in the vault.
It moves along three independent axes: custody (who has it), value (what is left) and integrity (can it
be trusted).

Buying one: `claim` for an order (at most one live claim per fingerprint, by a unique index), then
`take_title`, then `rekey`, and the code that the seller knew is dead. Selling one: `reserve`, `assign` to
the buyer, `reveal`. Spending one: `authorise` an amount, `capture` it or a part, `restore` it if wrong.
For vouchers of our own issue the registry is the issuer.
"""

from quanhui.vouchers.actions import (
    assign,
    authorise,
    capture,
    claim,
    fingerprint_of,
    open_codes,
    register,
    rekey,
    release,
    reserve,
    restore,
    reveal,
    rotate_keys,
    seal_code,
    set_integrity,
    take_title,
    unauthorise,
    unreserve,
)
from quanhui.vouchers.errors import CannotSpend, CustodyChanged, NotClaimable
from quanhui.vouchers.rules import (
    PLATFORM,
    Claim,
    Custody,
    FoundCode,
    Integrity,
    NewCode,
    NewVoucher,
    Spend,
    Value,
    Voucher,
)
from quanhui.vouchers.store import (
    enrol,
    expire,
    find_by_fingerprints,
    find_vouchers,
    list_held_by,
    live_claims,
    record_balances,
)

__all__ = [
    "PLATFORM", "CannotSpend", "Claim", "Custody", "CustodyChanged", "FoundCode", "Integrity", "NewCode",
    "NewVoucher", "NotClaimable", "Spend", "Value", "Voucher", "assign", "authorise", "capture", "claim",
    "enrol", "expire", "find_by_fingerprints", "find_vouchers", "fingerprint_of", "list_held_by",
    "live_claims", "open_codes", "record_balances",
    "register", "rekey", "release", "reserve", "restore", "reveal",
    "rotate_keys", "seal_code", "set_integrity", "take_title", "unauthorise", "unreserve",
]  # fmt: skip
