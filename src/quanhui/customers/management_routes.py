"""HTTP for the staff who look after customers: suspending accounts, registering enterprises."""

from typing import Annotated, Any

import msgspec
from litestar import Response, delete, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter
from msgspec import Meta

from quanhui.base.access import Scope, needs
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.web import Call
from quanhui.customers import actions
from quanhui.customers.rules import Enterprise, MemberRole, Status

MANAGE = needs("customers.manage", Scope.ALL)

CustomerId = Annotated[str, PathParameter(description="Id of a customer", max_length=40)]
EnterpriseId = Annotated[str, PathParameter(description="Id of an enterprise", max_length=40)]
Reason = Annotated[
    str,
    Meta(
        description="Why, for the record 原因",
        min_length=2,
        max_length=500,
        examples=["本人报失手机，申请停用"],
    ),
]


class EnterpriseBody(msgspec.Struct, forbid_unknown_fields=True):
    """A company to register."""

    credit_code: Annotated[
        str,
        Meta(
            description="Unified social credit code 统一社会信用代码",
            pattern="^[0-9A-HJ-NPQRTUWXY]{18}$",
            examples=["91350100M000100Y43"],
        ),
    ]
    name: Annotated[
        str,
        Meta(
            description="Registered name 企业名称",
            min_length=2,
            max_length=100,
            examples=["锦里商贸有限公司"],
        ),
    ]


class MemberBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the person is to the company."""

    role: MemberRole


class StatusBody(msgspec.Struct, forbid_unknown_fields=True):
    """The status an account shall have, and why."""

    status: Status
    reason: Reason


class EnterpriseView(msgspec.Struct, frozen=True, kw_only=True):
    """A company."""

    id: str
    credit_code: str
    name: str
    status: Status


class MemberView(msgspec.Struct, frozen=True):
    """Who may act for a company."""

    enterprise_id: str
    customer_id: str


class StatusView(msgspec.Struct, frozen=True):
    """An account and the status it has now."""

    id: str
    status: Status


@post(
    "/customers/{customer_id:str}/status",
    operation_id="set_customer_status",
    opt=MANAGE,
    tags=["customers"],
    status_code=200,
)
async def set_customer_status(
    call: NamedDependency[Call], customer_id: CustomerId, data: JSONBody[StatusBody]
) -> Response[StatusView]:
    """Suspend or reinstate a customer 停用或恢复账户

    Suspension ends their sessions at once.
    """

    async def work(db: Db) -> StatusView:
        if customer_id not in await actions.customers(db, [customer_id]):
            raise NotFound
        await actions.set_status(
            db, [customer_id], status=data.status, actor_id=call.actor.id, reason=data.reason, now=call.now
        )
        return StatusView(customer_id, data.status)

    return await call.command(work)


@post(
    "/enterprises",
    operation_id="register_enterprise",
    opt=MANAGE,
    tags=["customers"],
)
async def register_enterprise(
    call: NamedDependency[Call], data: JSONBody[EnterpriseBody]
) -> Response[EnterpriseView]:
    """Register an enterprise 登记企业

    By its unified social credit code.
    """

    async def work(db: Db) -> EnterpriseView:
        enterprise = await actions.register_enterprise(
            db, credit_code=data.credit_code, name=data.name, now=call.now
        )
        return enterprise_view(enterprise)

    return await call.command(work, status=201)


@put(
    "/enterprises/{enterprise_id:str}/members/{customer_id:str}",
    operation_id="put_enterprise_member",
    opt=MANAGE,
    tags=["customers"],
)
async def put_enterprise_member(
    call: NamedDependency[Call],
    enterprise_id: EnterpriseId,
    customer_id: CustomerId,
    data: JSONBody[MemberBody],
) -> Response[MemberView]:
    """Let a customer act for an enterprise 添加企业经办人

    They then open a session of their own for it.
    """

    async def work(db: Db) -> MemberView:
        await actions.put_member(db, enterprise_id=enterprise_id, customer_id=customer_id, role=data.role)
        return MemberView(enterprise_id, customer_id)

    return await call.command(work)


@delete(
    "/enterprises/{enterprise_id:str}/members/{customer_id:str}",
    operation_id="remove_enterprise_member",
    opt=MANAGE,
    tags=["customers"],
    status_code=200,
)
async def remove_enterprise_member(
    call: NamedDependency[Call],
    enterprise_id: EnterpriseId,
    customer_id: CustomerId,
) -> Response[MemberView]:
    """Stop a customer acting for an enterprise 移除企业经办人

    Their sessions for it end at once.
    """

    async def work(db: Db) -> MemberView:
        await actions.remove_member(db, enterprise_id=enterprise_id, customer_id=customer_id)
        return MemberView(enterprise_id, customer_id)

    return await call.command(work)


handlers: list[Any] = [
    set_customer_status,
    register_enterprise,
    put_enterprise_member,
    remove_enterprise_member,
]


def enterprise_view(enterprise: Enterprise) -> EnterpriseView:
    """What is shown of a company."""
    return EnterpriseView(
        id=enterprise.id,
        credit_code=enterprise.credit_code,
        name=enterprise.name,
        status=enterprise.status,
    )
