"""Customers 客户: people and companies who sell vouchers, buy them, and are paid.

A person is a phone number until they say who they are. They ask for a code; a task sends it, because no
network call happens inside a transaction; the code opens a session, and the first time an account. A
session is looked up on every request, so what is revoked or suspended is dead at once.

With a name and an identity number a customer becomes *verified* 实名. Only then may they name an account to
be paid on 收款账户, and only one held under the same name 同名. What they agreed to is kept as records of
consent 同意记录, each with its wording and its time. A person may also act for an *enterprise* 企业客户:
in a session of its own, so that nobody sells the company's vouchers by mistake as their own.

Phone, names, identity number and account numbers are at rest only sealed, and found by keyed fingerprint;
the database alone tells nobody who a customer is. Limits on codes, tries and proofs stand in `rules.py`.
"""

from quanhui.customers.actions import (
    MOST_PAYEES,
    STATUS_CHANGED,
    add_payee,
    admit_customers,
    change_profile,
    close_payee,
    consenting,
    count_identity_attempt,
    customers,
    enterprises,
    enterprises_of,
    give_consent,
    list_consents,
    list_payees,
    payees,
    put_member,
    record_identity,
    register_enterprise,
    remove_member,
    set_status,
    verified_names,
    withdraw_consent,
)
from quanhui.customers.gateway import SmsGateway
from quanhui.customers.rules import (
    Consent,
    ConsentPurpose,
    Customer,
    Enterprise,
    IdentityLevel,
    MemberRole,
    Payee,
    PayeeAccount,
    PayeeKind,
    Person,
    Status,
    open_payee_account,
    open_person,
    same_name,
)
from quanhui.customers.sessions import (
    CODE_REQUESTED,
    act_for,
    authenticate,
    forget_codes,
    request_code,
    sign_in,
)
from quanhui.customers.store import Enrolled, Enrolment, enrol
from quanhui.customers.tasks import send_sign_in_codes

__all__ = [
    "CODE_REQUESTED",
    "MOST_PAYEES",
    "STATUS_CHANGED",
    "Consent",
    "ConsentPurpose",
    "Customer",
    "Enrolled",
    "Enrolment",
    "Enterprise",
    "IdentityLevel",
    "MemberRole",
    "Payee",
    "PayeeAccount",
    "PayeeKind",
    "Person",
    "SmsGateway",
    "Status",
    "act_for",
    "add_payee",
    "admit_customers",
    "authenticate",
    "change_profile",
    "close_payee",
    "consenting",
    "count_identity_attempt",
    "customers",
    "enrol",
    "enterprises",
    "enterprises_of",
    "forget_codes",
    "give_consent",
    "list_consents",
    "list_payees",
    "open_payee_account",
    "open_person",
    "payees",
    "put_member",
    "record_identity",
    "register_enterprise",
    "remove_member",
    "request_code",
    "same_name",
    "send_sign_in_codes",
    "set_status",
    "sign_in",
    "verified_names",
    "withdraw_consent",
]
