"""HTTP for anyone who wants to check the log 存证: the checkpoint, proofs, and a receipt checker.

Receipts themselves are given out by the domains whose orders they are about.
"""

from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta

from quanhui import verifier
from quanhui.base.access import open_to_public
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.web import Call
from quanhui.evidence import actions
from quanhui.evidence.actions import Receipt

LARGEST_RECEIPT = 2_000_000
LARGEST_SIZE = 2**63 - 1

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, lower-case hex 十六进制哈希")]


class InclusionView(msgspec.Struct, frozen=True):
    """A proof that a leaf is in the tree; hashes run from leaf to root."""

    leaf_index: int
    tree_size: int
    hashes: list[Hash]


class ConsistencyView(msgspec.Struct, frozen=True):
    """A proof that the tree of size `second` begins with the tree of size `first`."""

    first: int
    second: int
    hashes: list[Hash]


class FindingView(msgspec.Struct, frozen=True):
    """One thing that the verifier checked, told in Chinese and English."""

    ok: bool
    zh: str
    en: str


class VerdictView(msgspec.Struct, frozen=True):
    """Whether the receipt is proved, and by which findings."""

    proved: bool
    findings: list[FindingView]


Leaf = Annotated[int, QueryParameter(ge=0, le=LARGEST_SIZE, description="Leaf index 叶序号")]
Size = Annotated[int, QueryParameter(ge=1, le=LARGEST_SIZE, description="Tree size 树的大小")]
First = Annotated[int, QueryParameter(ge=1, le=LARGEST_SIZE, description="Smaller size 较小的树")]
Second = Annotated[int, QueryParameter(ge=1, le=LARGEST_SIZE, description="Larger size 较大的树")]


@get(
    "/evidence/checkpoint",
    opt=open_to_public(),
    operation_id="get_checkpoint",
    tags=["evidence"],
    media_type="text/plain",
)
async def read_checkpoint(call: NamedDependency[Call]) -> Response[str]:
    """Get the latest checkpoint 最新存证检查点

    The newest signed tree head, as a C2SP signed note. Keep one: with it you can later prove a rewrite.
    """
    signed = await call.query(actions.latest_checkpoint)
    if signed is None:
        raise NotFound
    return Response(signed.note, media_type="text/plain")


@get(
    "/evidence/proofs/inclusion",
    opt=open_to_public(),
    operation_id="prove_inclusion",
    tags=["evidence"],
)
async def prove_inclusion(call: NamedDependency[Call], leaf: Leaf, size: Size) -> Response[InclusionView]:
    """Prove inclusion 包含证明

    That a leaf is in the tree of a given size (RFC 6962, 2.1.1), up to the latest checkpoint.
    """
    proof = await call.query(lambda db: actions.inclusion_proof(db, leaf, size))
    return Response(InclusionView(leaf, size, [each.hex() for each in proof]))


@get(
    "/evidence/proofs/consistency",
    opt=open_to_public(),
    operation_id="prove_consistency",
    tags=["evidence"],
)
async def prove_consistency(
    call: NamedDependency[Call], first: First, second: Second
) -> Response[ConsistencyView]:
    """Prove consistency 一致性证明

    That the log only grew between two sizes (RFC 6962, 2.1.2), up to the latest checkpoint.
    """
    proof = await call.query(lambda db: actions.consistency_proof(db, first, second))
    return Response(ConsistencyView(first, second, [each.hex() for each in proof]))


@post(
    "/evidence/verify",
    opt=open_to_public(),
    operation_id="verify_receipt",
    tags=["evidence"],
    status_code=200,
    request_max_body_size=LARGEST_RECEIPT,
)
async def verify(call: NamedDependency[Call], data: JSONBody[Receipt]) -> Response[VerdictView]:
    """Verify a receipt 验证存证凭证

    With the independent verifier, against this log's own key; nothing is stored. Whoever does not want to
    trust this answer runs `quanhui.verifier`, one file, on a machine of theirs.
    """

    async def own_key(db: Db) -> str:
        signed = await actions.latest_checkpoint(db)
        if signed is None:
            raise NotFound
        return signed.verifier_key

    findings = verifier.verify_receipt(msgspec.to_builtins(data), await call.query(own_key))
    return Response(
        VerdictView(
            proved=all(finding.ok for finding in findings),
            findings=[FindingView(finding.ok, finding.zh, finding.en) for finding in findings],
        )
    )


handlers: list[Any] = [read_checkpoint, prove_inclusion, prove_consistency, verify]
