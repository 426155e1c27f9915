"""HTTP for staff: signing in and out, operators and roles, and the record of what staff did."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta

from quanhui.base.access import Scope, needs, open_to_public
from quanhui.base.attempts import address_key
from quanhui.base.db import Db, in_transaction
from quanhui.base.keyring import Keyring
from quanhui.base.paging import PAGE_DEFAULT, Page, page_of
from quanhui.base.tokens import OpenedSession, end_session, end_sessions
from quanhui.base.web import Call
from quanhui.staff import actions, partner_routes, sessions
from quanhui.staff.errors import SignInRefused
from quanhui.staff.forms import (
    ADMIN,
    Cursor,
    PageSize,
    PathId,
    PlaceId,
    Reason,
    StaffStatusBody,
    StaffStatusView,
)
from quanhui.staff.passwords import Passwords
from quanhui.staff.rules import (
    PASSWORD_MAX_LENGTH,
    PASSWORD_MIN_LENGTH,
    AuditRecord,
    NewOperator,
    Operator,
    Role,
    Status,
    open_operator,
)
from quanhui.staff.totp import new_totp_secret, totp_uri

OWN_SESSION = needs("sessions.self", Scope.OWN)

Login = Annotated[
    str, Meta(description="Login name 登录名", pattern="^[A-Za-z0-9._-]{3,40}$", examples=["wang.xiaoming"])
]
GivenPassword = Annotated[
    str,
    Meta(
        description="Password 密码",
        min_length=1,
        max_length=PASSWORD_MAX_LENGTH,
        examples=["correct horse battery staple"],
    ),
]
NewPassword = Annotated[
    str,
    Meta(
        description="First password 初始密码",
        min_length=PASSWORD_MIN_LENGTH,
        max_length=PASSWORD_MAX_LENGTH,
        examples=["correct horse battery staple"],
    ),
]
OneTimePassword = Annotated[
    str,
    Meta(description="Six digits from the authenticator 动态口令", pattern="^[0-9]{6}$", examples=["492039"]),
]


class StaffSignInBody(msgspec.Struct, forbid_unknown_fields=True):
    """Who you are, and both proofs of it."""

    login: Login
    password: GivenPassword
    one_time_password: OneTimePassword

    def __repr__(self) -> str:
        return "StaffSignInBody(***)"


class OperatorBody(msgspec.Struct, forbid_unknown_fields=True):
    """Someone to add to staff."""

    login: Login
    name: Annotated[str, Meta(description="Name 姓名", min_length=1, max_length=50, examples=["王守一"])]
    password: NewPassword
    roles: Annotated[
        list[Annotated[str, Meta(max_length=40)]],
        Meta(description="Roles 角色", min_length=1, max_length=10, examples=[["desk_clerk"]]),
    ]
    store_id: PlaceId | None = None
    merchant_id: PlaceId | None = None

    def __repr__(self) -> str:
        return f"OperatorBody(login={self.login!r})"


class CredentialsBody(msgspec.Struct, forbid_unknown_fields=True):
    """A new first password, and why."""

    password: NewPassword
    reason: Reason

    def __repr__(self) -> str:
        return "CredentialsBody(***)"


class StaffTokenView(msgspec.Struct, frozen=True):
    """A session. The token is shown here once and never again."""

    token: str
    session_id: str
    expires_at: datetime


class SignedOutView(msgspec.Struct, frozen=True):
    """Which sessions ended: `this` or `all`."""

    ended: str


class StaffMeView(msgspec.Struct, frozen=True, kw_only=True):
    """The signed-in operator, with what they may do: a screen shows only that."""

    id: str
    login: str
    name: str
    roles: tuple[str, ...]
    grants: dict[str, Scope]
    store_id: str | None
    merchant_id: str | None


class OperatorView(msgspec.Struct, frozen=True, kw_only=True):
    """An operator."""

    id: str
    login: str
    name: str
    status: Status
    roles: tuple[str, ...]
    store_id: str | None
    merchant_id: str | None
    created_at: datetime


class CredentialsView(msgspec.Struct, frozen=True, kw_only=True):
    """An operator with the key for their authenticator app, shown this once."""

    operator: OperatorView
    totp_uri: str


@post("/auth/staff/sign-in", operation_id="sign_in_staff", opt=open_to_public(), tags=["auth"])
async def sign_in_staff(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    passwords: NamedDependency[Passwords],
    request: Request[Any, Any, Any],
    data: JSONBody[StaffSignInBody],
) -> Response[StaffTokenView]:
    """Sign in as staff 员工登录

    With login, password and one-time password. Whatever is wrong, the answer is the same 401 in the same
    time. After five tries the login waits a minute, then two, then four …
    """
    address = address_key(keyring, request.client.host if request.client else "")

    async def begin(db: Db) -> sessions.Candidate:
        return await sessions.begin_sign_in(db, keyring, login=data.login, address=address, now=call.now)

    candidate = await in_transaction(call.pool, begin)
    proof = await sessions.prove(
        passwords, candidate, password=data.password, totp_code=data.one_time_password, now=call.now
    )
    if proof is None:
        raise SignInRefused

    async def finish(db: Db) -> OpenedSession | None:
        return await sessions.finish_sign_in(db, proof, device_id=call.device_id, now=call.now)

    session = await in_transaction(call.pool, finish)
    if session is None:
        raise SignInRefused
    return Response(StaffTokenView(session.token, session.id, session.expires_at), status_code=201)


@post("/auth/sign-out", operation_id="sign_out", opt=OWN_SESSION, tags=["auth"], status_code=200)
async def sign_out(call: NamedDependency[Call]) -> Response[SignedOutView]:
    """End this session 退出登录

    A customer's or a member of staff's; the token is dead at once.
    """

    async def work(db: Db) -> SignedOutView:
        assert call.actor.session_id is not None, "partners have no permission to sign out"
        await end_session(db, call.actor.session_id, now=call.now)
        return SignedOutView("this")

    return await call.command(work)


@post(
    "/auth/sign-out-everywhere",
    operation_id="sign_out_everywhere",
    opt=OWN_SESSION,
    tags=["auth"],
    status_code=200,
)
async def sign_out_everywhere(call: NamedDependency[Call]) -> Response[SignedOutView]:
    """End all your sessions 退出所有设备

    On every device, at once.
    """

    async def work(db: Db) -> SignedOutView:
        await end_sessions(db, [call.actor.id], now=call.now)
        return SignedOutView("all")

    return await call.command(work)


@get("/staff/me", operation_id="read_staff_me", opt=needs("staff.self", Scope.OWN), tags=["staff"])
async def read_staff_me(
    call: NamedDependency[Call], keyring: NamedDependency[Keyring]
) -> Response[StaffMeView]:
    """Show who is signed in 我的权限

    The operator, and what they may do.
    """

    async def read(db: Db) -> StaffMeView:
        operator = (await actions.operators(db, [call.actor.id]))[call.actor.id]
        return StaffMeView(
            id=operator.id,
            login=operator.login,
            name=open_operator(keyring, operator.id, operator.sealed).name,
            roles=operator.roles,
            grants=dict(call.actor.grants),
            store_id=operator.store_id,
            merchant_id=operator.merchant_id,
        )

    return Response(await call.query(read))


@get("/staff/roles", operation_id="list_roles", opt=ADMIN, tags=["staff"])
async def list_roles(call: NamedDependency[Call]) -> Response[list[Role]]:
    """List roles 角色

    With what each grants and how far it reaches.
    """
    return Response(await call.query(actions.roles))


@get("/staff/operators", operation_id="list_operators", opt=ADMIN, tags=["staff"])
async def list_operators(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    cursor: Cursor = None,
    limit: PageSize = PAGE_DEFAULT,
) -> Response[Page[OperatorView]]:
    """List operators 员工

    Newest first.
    """

    async def read(db: Db) -> Page[OperatorView]:
        rows = await actions.list_operators(db, before=cursor, limit=limit + 1)
        return page_of([_operator_view(keyring, row) for row in rows], limit=limit)

    return Response(await call.query(read))


@post("/staff/operators", operation_id="add_operator", opt=ADMIN, tags=["staff"])
async def add_operator(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    passwords: NamedDependency[Passwords],
    data: JSONBody[OperatorBody],
) -> Response[CredentialsView]:
    """Add an operator 新增员工

    The answer holds the authenticator key, once: a repeat gets `login-taken`.
    """
    password_hash = await passwords.hash(data.password)
    new = NewOperator(
        login=data.login,
        name=data.name,
        password_hash=password_hash,
        totp_secret=new_totp_secret(),
        roles=tuple(data.roles),
        store_id=data.store_id,
        merchant_id=data.merchant_id,
    )

    async def work(db: Db) -> CredentialsView:
        operator = await actions.add_operator(db, keyring, new, actor_id=call.actor.id, now=call.now)
        return CredentialsView(
            operator=_operator_view(keyring, operator), totp_uri=totp_uri(operator.login, new.totp_secret)
        )

    return await call.command(work, status=201, keep_answer=False)


@post(
    "/staff/operators/{operator_id:str}/status",
    operation_id="set_operator_status",
    opt=ADMIN,
    tags=["staff"],
    status_code=200,
)
async def set_operator_status(
    call: NamedDependency[Call], operator_id: PathId, data: JSONBody[StaffStatusBody]
) -> Response[StaffStatusView]:
    """Suspend or reinstate an operator 停用或恢复员工

    Suspension ends their sessions at once.
    """

    async def work(db: Db) -> StaffStatusView:
        await actions.set_operator_status(
            db,
            operator_id=operator_id,
            status=data.status,
            actor_id=call.actor.id,
            reason=data.reason,
            now=call.now,
        )
        return StaffStatusView(operator_id, data.status)

    return await call.command(work)


@post(
    "/staff/operators/{operator_id:str}/credentials",
    operation_id="reset_operator_credentials",
    opt=ADMIN,
    tags=["staff"],
    status_code=200,
)
async def reset_operator_credentials(
    call: NamedDependency[Call],
    keyring: NamedDependency[Keyring],
    passwords: NamedDependency[Passwords],
    operator_id: PathId,
    data: JSONBody[CredentialsBody],
) -> Response[CredentialsView]:
    """Reset an operator's credentials 重置凭据

    Another password and authenticator key; their sessions end at once.
    """
    password_hash = await passwords.hash(data.password)

    async def work(db: Db) -> CredentialsView:
        operator, secret = await actions.reset_credentials(
            db,
            keyring,
            operator_id=operator_id,
            password_hash=password_hash,
            actor_id=call.actor.id,
            reason=data.reason,
            now=call.now,
        )
        return CredentialsView(
            operator=_operator_view(keyring, operator), totp_uri=totp_uri(operator.login, secret)
        )

    return await call.command(work, keep_answer=False)


@get("/staff/audit", operation_id="list_audit", opt=needs("staff.audit", Scope.ALL), tags=["staff"])
async def list_audit(
    call: NamedDependency[Call],
    actor_id: Annotated[
        str | None, QueryParameter(description="Only what this actor did", max_length=40)
    ] = None,
    subject: Annotated[
        str | None, QueryParameter(description="Only what was done to this", max_length=80)
    ] = None,
    cursor: Cursor = None,
    limit: PageSize = PAGE_DEFAULT,
) -> Response[Page[AuditRecord]]:
    """List what staff did 操作留痕

    Newest first, with the reason given.
    """

    async def read(db: Db) -> Page[AuditRecord]:
        rows = await actions.audit_trail(
            db, actor_id=actor_id, subject=subject, before=cursor, limit=limit + 1
        )
        return page_of(rows, limit=limit)

    return Response(await call.query(read))


handlers: list[Any] = [
    sign_in_staff,
    sign_out,
    sign_out_everywhere,
    read_staff_me,
    list_roles,
    list_operators,
    add_operator,
    set_operator_status,
    reset_operator_credentials,
    list_audit,
    *partner_routes.handlers,
]


def _operator_view(keyring: Keyring, operator: Operator) -> OperatorView:
    return OperatorView(
        id=operator.id,
        login=operator.login,
        name=open_operator(keyring, operator.id, operator.sealed).name,
        status=operator.status,
        roles=operator.roles,
        store_id=operator.store_id,
        merchant_id=operator.merchant_id,
        created_at=operator.created_at,
    )
