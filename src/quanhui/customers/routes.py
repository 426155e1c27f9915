"""HTTP for customers: signing in and one's own profile, payees, consents and enterprises."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta

from quanhui.base.access import Scope, needs, open_to_public
from quanhui.base.attempts import address_key
from quanhui.base.db import Db, in_transaction
from quanhui.base.errors import NotFound
from quanhui.base.keyring import Keyring
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.tokens import OpenedSession
from quanhui.base.web import Call
from quanhui.customers import actions, management_routes, sessions
from quanhui.customers.errors import CodeRefused
from quanhui.customers.management_routes import EnterpriseView, enterprise_view
from quanhui.customers.rules import (
    CODE_TTL,
    Consent,
    ConsentPurpose,
    Customer,
    IdentityLevel,
    Payee,
    PayeeKind,
    mask_name,
    mask_phone,
    open_person,
)

Phone = Annotated[
    str,
    Meta(description="Mainland mobile number 手机号", pattern="^1[3-9][0-9]{9}$", examples=["13800138000"]),
]
PersonName = Annotated[
    str, Meta(description="Name as on the identity card 姓名", pattern=r"^\S.{0,48}\S$", examples=["王小明"])
]
Version = Annotated[
    str, Meta(description="Which wording 文本版本", min_length=1, max_length=40, examples=["2026-11-01"])
]


class CodeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Where to send a code."""

    phone: Phone


class SignInBody(msgspec.Struct, forbid_unknown_fields=True):
    """The code that arrived."""

    phone: Phone
    code: Annotated[str, Meta(description="Six digits 验证码", pattern="^[0-9]{6}$", examples=["042137"])]


class IdentityBody(msgspec.Struct, forbid_unknown_fields=True):
    """Who the customer is; without a number only the name is recorded."""

    real_name: PersonName
    id_number: (
        Annotated[
            str,
            Meta(
                description="Resident identity number 身份证号码",
                pattern="^[0-9]{17}[0-9Xx]$",
                examples=["11010519491231002X"],
            ),
        ]
        | None
    ) = None


class ProfileBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to change; a field left out stays."""

    display_name: (
        Annotated[
            str, Meta(description="How to address you 称呼", min_length=1, max_length=30, examples=["王师傅"])
        ]
        | None
    ) = None
    elder_mode: (
        Annotated[bool, Meta(description="Large type, few steps, more time 长辈模式", examples=[True])] | None
    ) = None


class PayeeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Where to be paid."""

    kind: PayeeKind
    account: Annotated[
        str,
        Meta(
            description="Card number, or the account at the institution 收款账号",
            pattern="^[0-9A-Za-z@._+-]{4,64}$",
            examples=["6216261000000000018"],
        ),
    ]
    holder_name: PersonName


class ConsentBody(msgspec.Struct, forbid_unknown_fields=True):
    """A consent given (`given: true`) or withdrawn (`given: false`)."""

    purpose: ConsentPurpose
    version: Version
    given: Annotated[bool, Meta(examples=[True])] = True


class CodeView(msgspec.Struct, frozen=True):
    """The same answer whether or not the number has an account."""

    sent: bool
    expires_in_s: int


class TokenView(msgspec.Struct, frozen=True):
    """A session. The token is shown here once and never again."""

    token: str
    session_id: str
    expires_at: datetime


class MeView(msgspec.Struct, frozen=True, kw_only=True):
    """A customer as they see themselves; phone and name are masked."""

    id: str
    phone: str
    display_name: str | None
    real_name: str | None
    identity_level: IdentityLevel
    elder_mode: bool
    created_at: datetime
    enterprise_id: str | None


class PayeeView(msgspec.Struct, frozen=True, kw_only=True):
    """A payee account, all but its last characters hidden."""

    id: str
    kind: PayeeKind
    account: str
    created_at: datetime


@post(
    "/auth/customer/code",
    operation_id="request_sign_in_code",
    opt=open_to_public(),
    tags=["auth"],
    status_code=202,
)
async def request_sign_in_code(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    request: Request[Any, Any, Any],
    data: JSONBody[CodeBody],
) -> Response[CodeView]:
    """Send a sign-in code 获取验证码

    Six digits, good for five minutes and five tries. At most one a minute and five an hour for a number;
    more gets 429. The answer does not tell whether the number has an account.
    """
    address = address_key(keyring, _host(request))

    async def work(db: Db) -> None:
        await sessions.request_code(
            db, keyring, phone=data.phone, device_id=call.device_id, address=address, now=call.now
        )

    await in_transaction(call.pool, work)
    return Response(CodeView(sent=True, expires_in_s=int(CODE_TTL.total_seconds())), status_code=202)


@post("/auth/customer/sign-in", operation_id="sign_in_customer", opt=open_to_public(), tags=["auth"])
async def sign_in_customer(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    request: Request[Any, Any, Any],
    data: JSONBody[SignInBody],
) -> Response[TokenView]:
    """Sign in with a code 登录

    The first time opens the account. Send the token as `Authorization: Bearer …`. A wrong, late, used or
    overtried code gets the same 401.
    """
    address = address_key(keyring, _host(request))

    async def work(db: Db) -> OpenedSession | None:
        return await sessions.sign_in(
            db,
            keyring,
            phone=data.phone,
            code=data.code,
            device_id=call.device_id,
            address=address,
            now=call.now,
        )

    session = await in_transaction(call.pool, work)
    if session is None:
        raise CodeRefused
    return Response(_token_view(session), status_code=201)


@get("/me", operation_id="read_me", opt=needs("customers.self", Scope.OWN), tags=["customers"])
async def read_me(call: NamedDependency[Call], keyring: NamedDependency[Keyring]) -> Response[MeView]:
    """Show who is signed in 我的资料

    Phone and name are masked.
    """

    async def read(db: Db) -> MeView:
        customer = (await actions.customers(db, [call.actor.id]))[call.actor.id]
        return _me_view(keyring, customer, call.actor.enterprise_id)

    return Response(await call.query(read))


@patch("/me", operation_id="change_me", opt=needs("customers.self", Scope.OWN), tags=["customers"])
async def change_me(
    call: NamedDependency[Call], keyring: NamedDependency[Keyring], data: JSONBody[ProfileBody]
) -> Response[MeView]:
    """Change your profile 修改资料

    How you are addressed, or elder mode.
    """

    async def work(db: Db) -> MeView:
        customer = await actions.change_profile(
            db,
            keyring,
            customer_id=call.actor.id,
            display_name=data.display_name,
            elder_mode=data.elder_mode,
        )
        return _me_view(keyring, customer, call.actor.enterprise_id)

    return await call.command(work)


@post(
    "/me/identity", operation_id="record_identity", opt=needs("customers.self", Scope.OWN), tags=["customers"]
)
async def record_identity(
    call: NamedDependency[Call], keyring: NamedDependency[Keyring], data: JSONBody[IdentityBody]
) -> Response[MeView]:
    """Say who you are 实名认证

    With an identity number the level becomes `verified`. The number must pass its check digit and belong to
    no other account. Ten attempts a day.
    """

    async def count(db: Db) -> None:
        await actions.count_identity_attempt(db, keyring, call.actor.id, now=call.now)

    async def work(db: Db) -> MeView:
        customer = await actions.record_identity(
            db,
            keyring,
            customer_id=call.actor.id,
            real_name=data.real_name,
            id_number=data.id_number,
            now=call.now,
        )
        return _me_view(keyring, customer, call.actor.enterprise_id)

    await in_transaction(call.pool, count)
    return await call.command(work, status=201)


@get("/me/payees", operation_id="list_payees", opt=needs("customers.self", Scope.OWN), tags=["customers"])
async def list_payees(call: NamedDependency[Call]) -> Response[list[PayeeView]]:
    """List your payee accounts 收款账户

    Newest first; there are at most ten.
    """

    async def read(db: Db) -> list[PayeeView]:
        return [_payee_view(payee) for payee in await actions.list_payees(db, call.actor.id)]

    return Response(await call.query(read))


@post("/me/payees", operation_id="add_payee", opt=needs("customers.self", Scope.OWN), tags=["customers"])
async def add_payee(
    call: NamedDependency[Call], keyring: NamedDependency[Keyring], data: JSONBody[PayeeBody]
) -> Response[PayeeView]:
    """Add a payee account 添加收款账户

    It must be held under your verified name 同名校验.
    """

    async def work(db: Db) -> PayeeView:
        payee = await actions.add_payee(
            db,
            keyring,
            customer_id=call.actor.id,
            kind=data.kind,
            account=data.account,
            holder_name=data.holder_name,
            now=call.now,
        )
        return _payee_view(payee)

    return await call.command(work, status=201)


@delete(
    "/me/payees/{payee_id:str}",
    operation_id="close_payee",
    opt=needs("customers.self", Scope.OWN),
    tags=["customers"],
    status_code=200,
)
async def close_payee(
    call: NamedDependency[Call],
    payee_id: Annotated[str, PathParameter(description="Id of a payee account", max_length=40)],
) -> Response[None]:
    """Remove a payee account 删除收款账户

    Payouts already under way still go there.
    """

    async def work(db: Db) -> None:
        await actions.close_payee(db, customer_id=call.actor.id, payee_id=payee_id, now=call.now)

    return await call.command(work)


@get("/me/consents", operation_id="list_consents", opt=needs("customers.self", Scope.OWN), tags=["customers"])
async def list_consents(
    call: NamedDependency[Call],
    cursor: Annotated[
        str | None, QueryParameter(description="`next_cursor` of the page before", max_length=40)
    ] = None,
    limit: Annotated[int, QueryParameter(description="Items on a page", ge=1, le=PAGE_LIMIT)] = PAGE_DEFAULT,
) -> Response[Page[Consent]]:
    """List what you agreed to 同意记录

    And what you withdrew, newest first.
    """

    async def read(db: Db) -> Page[Consent]:
        rows = await actions.list_consents(db, call.actor.id, before=cursor, limit=limit + 1)
        return page_of(rows, limit=limit)

    return Response(await call.query(read))


@post(
    "/me/consents", operation_id="record_consent", opt=needs("customers.self", Scope.OWN), tags=["customers"]
)
async def record_consent(call: NamedDependency[Call], data: JSONBody[ConsentBody]) -> Response[Page[Consent]]:
    """Give or withdraw a consent 同意或撤回

    Answers with the latest records.
    """

    async def work(db: Db) -> Page[Consent]:
        who = call.actor.id
        if data.given:
            await actions.give_consent(
                db, customer_id=who, purpose=data.purpose, version=data.version, now=call.now
            )
        else:
            await actions.withdraw_consent(db, customer_id=who, purpose=data.purpose, now=call.now)
        rows = await actions.list_consents(db, who, limit=PAGE_DEFAULT + 1)
        return page_of(rows, limit=PAGE_DEFAULT)

    return await call.command(work, status=201)


@get(
    "/me/enterprises",
    operation_id="list_my_enterprises",
    opt=needs("customers.self", Scope.OWN),
    tags=["customers"],
)
async def list_my_enterprises(call: NamedDependency[Call]) -> Response[list[EnterpriseView]]:
    """List enterprises you may act for 我的企业

    Open a session for one of them to do so.
    """

    async def read(db: Db) -> list[EnterpriseView]:
        return [enterprise_view(one) for one in await actions.enterprises_of(db, call.actor.id)]

    return Response(await call.query(read))


@post(
    "/me/enterprises/{enterprise_id:str}/session",
    operation_id="act_for_enterprise",
    opt=needs("customers.self", Scope.OWN),
    tags=["auth"],
)
async def act_for_enterprise(
    call: NamedDependency[Call],
    enterprise_id: Annotated[str, PathParameter(description="Id of an enterprise", max_length=40)],
) -> Response[TokenView]:
    """Act for an enterprise 企业经办登录

    Opens a session for it; your own session stays.
    """

    async def work(db: Db) -> TokenView:
        session = await sessions.act_for(
            db,
            customer_id=call.actor.id,
            enterprise_id=enterprise_id,
            device_id=call.device_id,
            now=call.now,
        )
        if session is None:
            raise NotFound
        return _token_view(session)

    return await call.command(work, status=201, keep_answer=False)


handlers: list[Any] = [
    request_sign_in_code,
    sign_in_customer,
    read_me,
    change_me,
    record_identity,
    list_payees,
    add_payee,
    close_payee,
    list_consents,
    record_consent,
    list_my_enterprises,
    act_for_enterprise,
    *management_routes.handlers,
]


def _host(request: Request[Any, Any, Any]) -> str:
    return request.client.host if request.client else ""


def _token_view(session: OpenedSession) -> TokenView:
    return TokenView(session.token, session.id, session.expires_at)


def _me_view(keyring: Keyring, customer: Customer, enterprise_id: str | None) -> MeView:
    person = open_person(keyring, customer)
    return MeView(
        id=customer.id,
        phone=mask_phone(person.phone),
        display_name=person.display_name,
        real_name=mask_name(person.real_name) if person.real_name else None,
        identity_level=customer.identity_level,
        elder_mode=customer.elder_mode,
        created_at=customer.created_at,
        enterprise_id=enterprise_id,
    )


def _payee_view(payee: Payee) -> PayeeView:
    return PayeeView(id=payee.id, kind=payee.kind, account=f"****{payee.tail}", created_at=payee.created_at)
