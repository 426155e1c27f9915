"""Staff 员工 and partners 合作方: who works with the platform, what they may do, and what they did.

An operator signs in with a login, a password kept as argon2id, and a one-time password from an authenticator
app that works once. A wrong try is counted before it is judged, for the login and for the address; a login
that does not exist behaves like one that does. What an operator may do comes from *roles*, which are data:
each grants permissions, and each permission reaches their store, their merchant, or everything.

A partner is a program. It signs every request with a secret it was shown once, and no signed request works
twice. What partners may do comes from the role `partner` and reaches their own enterprise or merchant only.

What staff do to people and keys is written into an *audit trail* 操作留痕 that can only grow; other parts of
the business add to it with `audit`.
"""

from quanhui.staff.actions import (
    add_operator,
    audit,
    audit_trail,
    list_operators,
    operators,
    reset_credentials,
    roles,
    set_operator_status,
)
from quanhui.staff.partners import (
    KEY_HEADER,
    add_partner,
    add_partner_key,
    authenticate_partner,
    forget_messages,
    list_partners,
    revoke_partner_key,
    set_partner_status,
)
from quanhui.staff.passwords import Passwords
from quanhui.staff.rules import (
    AuditEntry,
    AuditRecord,
    NewOperator,
    Operator,
    Partner,
    PartnerKey,
    Role,
    Status,
)
from quanhui.staff.sessions import (
    Candidate,
    Proof,
    authenticate_session,
    begin_sign_in,
    finish_sign_in,
    prove,
)
from quanhui.staff.store import enrol
from quanhui.staff.totp import new_totp_secret, totp_uri

__all__ = [
    "KEY_HEADER",
    "AuditEntry",
    "AuditRecord",
    "Candidate",
    "NewOperator",
    "Operator",
    "Partner",
    "PartnerKey",
    "Passwords",
    "Proof",
    "Role",
    "Status",
    "add_operator",
    "add_partner",
    "add_partner_key",
    "audit",
    "audit_trail",
    "authenticate_partner",
    "authenticate_session",
    "begin_sign_in",
    "enrol",
    "finish_sign_in",
    "forget_messages",
    "list_operators",
    "list_partners",
    "new_totp_secret",
    "operators",
    "prove",
    "reset_credentials",
    "revoke_partner_key",
    "roles",
    "set_operator_status",
    "set_partner_status",
    "totp_uri",
]
