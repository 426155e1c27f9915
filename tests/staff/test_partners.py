"""Partners: signed requests that work once."""

from datetime import timedelta

import pytest
from factories.identity import dump

from quanhui import staff
from quanhui.base.access import ActorKind, Scope
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.signing import sign
from quanhui.staff.errors import PartnerBelongsNowhere

TARGET = "POST /v1/buyback/orders"
BODY = b'{"vouchers":[]}'
BOSS = "stf_boss"


async def partner(db: Db, keyring, now, **belongs: str | None) -> staff.PartnerKey:
    place = {"enterprise_id": "ent_1", "merchant_id": None} | belongs
    return await staff.add_partner(db, keyring, name="福利平台", **place, actor_id=BOSS, now=now)


def signed(key: staff.PartnerKey, now, *, message_id="msg_1", body=BODY, target=TARGET) -> dict[str, str]:
    headers = sign(key.secret.encode(), id=message_id, now=now, body=body, target=target)
    return headers | {staff.KEY_HEADER: key.key_id}


async def ask(db: Db, keyring, headers, now, *, target=TARGET, body=BODY):
    return await staff.authenticate_partner(db, keyring, headers, target=target, body=body, now=now)


async def test_a_signed_request_names_the_partner_and_its_enterprise(db: Db, keyring, now):
    key = await partner(db, keyring, now)
    actor = await ask(db, keyring, signed(key, now), now)
    assert (actor.kind, actor.id, actor.enterprise_id) == (ActorKind.PARTNER, key.partner_id, "ent_1")
    assert actor.reach("buyback.sell") is Scope.ENTERPRISE
    assert actor.reach("redemption.redeem") is None


async def test_a_merchants_partner_redeems_but_does_not_sell(db: Db, keyring, now):
    key = await partner(db, keyring, now, enterprise_id=None, merchant_id="mer_1")
    actor = await ask(db, keyring, signed(key, now), now)
    assert actor.reach("redemption.redeem") is Scope.MERCHANT
    assert actor.reach("buyback.sell") is None


async def test_a_signed_request_works_once(db: Db, keyring, now):
    key = await partner(db, keyring, now)
    headers = signed(key, now)
    assert await ask(db, keyring, headers, now)
    assert await ask(db, keyring, headers, now) is None
    assert await ask(db, keyring, signed(key, now, message_id="msg_2"), now)


async def test_a_replay_is_refused_for_as_long_as_its_signature_could_pass(db: Db, keyring, now):
    key = await partner(db, keyring, now)
    early = now - timedelta(minutes=5)
    headers = signed(key, now)
    assert await ask(db, keyring, headers, early)
    for minutes in range(11):
        at = early + timedelta(minutes=minutes)
        await staff.forget_messages(db, now=at)
        assert await ask(db, keyring, headers, at) is None
    assert await staff.forget_messages(db, now=early + timedelta(minutes=10, seconds=1)) == 1


async def test_a_signature_fits_one_method_path_and_body_only(db: Db, keyring, now):
    key = await partner(db, keyring, now)
    headers = signed(key, now)
    for target, body in (
        ("POST /v1/buyback/orders/ord_1/accept", BODY),
        ("PUT /v1/buyback/orders", BODY),
        ("POST /v1/buyback/orders?dry=1", BODY),
        (TARGET, BODY + b" "),
    ):
        assert await ask(db, keyring, headers, now, target=target, body=body) is None
    assert await ask(db, keyring, headers, now)


async def test_an_old_or_early_signature_is_refused(db: Db, keyring, now):
    key = await partner(db, keyring, now)
    for away in (timedelta(minutes=5, seconds=1), -timedelta(minutes=5, seconds=1)):
        assert await ask(db, keyring, signed(key, now + away), now) is None


async def test_another_partners_key_does_not_fit(db: Db, keyring, now):
    mine, theirs = [await partner(db, keyring, now) for _ in range(2)]
    headers = signed(mine, now) | {staff.KEY_HEADER: theirs.key_id}
    assert await ask(db, keyring, headers, now) is None


@pytest.mark.parametrize("headers", [{}, {"quanhui-key": "pky_none"}])
async def test_without_a_key_there_is_nobody(db: Db, keyring, now, headers):
    decoy = sign(bytes(32), id="msg_1", now=now, body=BODY, target=TARGET)
    assert await ask(db, keyring, headers, now) is None
    assert await ask(db, keyring, headers | decoy, now) is None


async def test_a_message_id_that_cannot_be_kept_is_refused(db: Db, keyring, now):
    key = await partner(db, keyring, now)
    for message_id in ("m" * 129, "a b", "号"):
        assert await ask(db, keyring, signed(key, now, message_id=message_id), now) is None


async def test_a_revoked_key_is_dead_at_once_and_the_other_lives(db: Db, keyring, now):
    old = await partner(db, keyring, now)
    new = await staff.add_partner_key(db, keyring, partner_id=old.partner_id, actor_id=BOSS, now=now)
    revoke = {"partner_id": old.partner_id, "key_id": old.key_id, "actor_id": BOSS, "reason": "leaked"}
    await staff.revoke_partner_key(db, **revoke, now=now)
    assert await ask(db, keyring, signed(old, now), now) is None
    assert (await ask(db, keyring, signed(new, now), now)).id == old.partner_id
    with pytest.raises(NotFound):
        await staff.revoke_partner_key(db, **revoke, now=now)


async def test_a_suspended_partner_is_out_with_all_its_keys(db: Db, keyring, now):
    key = await partner(db, keyring, now)
    change = {"partner_id": key.partner_id, "actor_id": BOSS, "reason": "contract ended", "now": now}
    await staff.set_partner_status(db, status=staff.Status.SUSPENDED, **change)
    assert await ask(db, keyring, signed(key, now), now) is None
    await staff.set_partner_status(db, status=staff.Status.ACTIVE, **change)
    assert await ask(db, keyring, signed(key, now, message_id="msg_2"), now)


async def test_a_partner_belongs_to_someone(db: Db, keyring, now):
    with pytest.raises(PartnerBelongsNowhere):
        await partner(db, keyring, now, enterprise_id=None)
    with pytest.raises(NotFound):
        await staff.add_partner_key(db, keyring, partner_id="ptn_none", actor_id=BOSS, now=now)


async def test_a_partners_secret_is_not_stored_in_the_clear_and_its_key_is_audited(db: Db, keyring, now):
    key = await partner(db, keyring, now)
    stored = await dump(db)
    assert key.key_id in stored
    assert key.secret not in stored
    assert key.secret.encode().hex() not in stored
    assert key.secret not in repr(key)
    (record,) = await staff.audit_trail(db, subject=key.key_id, limit=9)
    assert (record.actor_id, record.action) == (BOSS, "partner.key_added")
