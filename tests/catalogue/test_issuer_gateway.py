"""The connector against the issuer sandbox, and against an issuer who talks nonsense."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from fakes.outside import answering, http_client, start_sandbox

from quanhui.base import clock
from quanhui.base.http import NoAnswer
from quanhui.catalogue import (
    BalanceStatus,
    CheckAlgorithm,
    CodeFormat,
    ExtendRequest,
    HoldRequest,
    IssuerConnector,
    RedeemRequest,
    check_ok,
    normalise,
)
from quanhui.catalogue.gateway import IssuerAnsweredNonsense, SandboxIssuerConnector

ISSUER = "iss_test"
NEXT_YEAR = datetime(2027, 12, 31, 16, tzinfo=UTC)
LUHN = CodeFormat(prefix="KD", alphabet="0123456789", body_length=12, check=CheckAlgorithm.LUHN)

numbers = count(1)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("issuer")
    seed_file = folder / "seed.jsonl"
    seed_file.write_text(json.dumps(voucher("KDSEEDED", face_fen=30_000)) + "\n\n")
    sandbox = start_sandbox("issuer", folder, seed_file=seed_file)
    yield sandbox
    assert sandbox.stop() == 0


@pytest.fixture
async def connector(issuer):
    async with http_client() as http:
        yield reach(http, issuer.url, secret=issuer.secret)
    issuer.behave()


def reach(http, url, *, secret=b"any", issuer=ISSUER) -> IssuerConnector:
    return SandboxIssuerConnector(http, base_url=url, issuer=issuer, secret=secret, timeout_s=0.5)


def voucher(code, *, face_fen=10_000, balance_fen=None, expires_at=NEXT_YEAR, **more):
    return {
        "issuer": ISSUER,
        "prefix": "KD",
        "code": code,
        "face_fen": face_fen,
        "balance_fen": face_fen if balance_fen is None else balance_fen,
        "expires_at": expires_at.isoformat(),
        **more,
    }


def issue(issuer, **details):
    """A fresh voucher in the issuer's books; returns its code."""
    code = f"KD{next(numbers):012d}"
    issuer.call("/control/vouchers", [voucher(code, **details)])
    return code


def reference():
    return f"ref-{next(numbers)}"


def books(issuer, code):
    (row,) = issuer.call("/control/books", {"codes": [code]})
    return row


async def verify_one(connector, code):
    (check,) = await connector.verify([code], now=clock.now())
    return check


async def hold(connector, operation, code, ref):
    (outcome,) = await getattr(connector, operation)([HoldRequest(code=code, reference=ref)], now=clock.now())
    return outcome


async def draw(connector, operation, code, amount_fen, ref):
    request = RedeemRequest(code=code, amount_fen=amount_fen, reference=ref)
    (outcome,) = await getattr(connector, operation)([request], now=clock.now())
    return outcome


async def test_a_seeded_voucher_is_worth_what_the_seed_file_says(connector):
    check = await verify_one(connector, "KDSEEDED")
    assert (check.status, check.face_fen, check.balance_fen) == (BalanceStatus.KNOWN, 30_000, 30_000)
    assert check.expires_at == NEXT_YEAR


async def test_every_status_is_told_apart(connector, issuer):
    locked, void = issue(issuer), issue(issuer)
    codes = {
        BalanceStatus.KNOWN: issue(issuer),
        BalanceStatus.UNKNOWN: "KDNOSUCH",
        BalanceStatus.LOCKED: locked,
        BalanceStatus.SPENT: issue(issuer, balance_fen=0),
        BalanceStatus.EXPIRED: issue(issuer, expires_at=clock.now() - timedelta(seconds=1)),
        BalanceStatus.VOID: void,
    }
    await hold(connector, "lock", locked, reference())
    await hold(connector, "rekey", void, reference())
    checks = await connector.verify(list(codes.values()), now=clock.now())
    assert [check.status for check in checks] == list(codes)


async def test_sets_larger_than_the_issuer_takes_come_back_whole_and_in_order(connector, issuer):
    faces = {f"KDBIG{i:04d}": 1_000 + i for i in range(250)}
    issuer.call("/control/vouchers", [voucher(code, face_fen=fen) for code, fen in faces.items()])
    checks = await connector.verify(list(faces), now=clock.now())
    assert [check.face_fen for check in checks] == list(faces.values())


async def test_a_locked_voucher_cannot_be_spent_by_others_until_unlocked(connector, issuer):
    code, ours = issue(issuer), reference()
    spend = {"issuer": ISSUER, "code": code, "amount_fen": 100}
    assert (await hold(connector, "lock", code, ours)).ok
    assert issuer.call("/control/spend", spend)["reason"] == "locked_by_other"
    assert (await hold(connector, "lock", code, reference())).reason == "locked_by_other"
    assert (await hold(connector, "unlock", code, reference())).reason == "not_locked"
    assert (await hold(connector, "unlock", code, ours)).ok
    assert issuer.call("/control/spend", spend) == {"ok": True, "balance_fen": 9_900}


async def test_a_rekeyed_voucher_keeps_its_value_and_format_and_the_old_code_is_dead(connector, issuer):
    code_format = {"alphabet": LUHN.alphabet, "body_length": LUHN.body_length, "check": "luhn"}
    code = issue(issuer, balance_fen=7_000, format=code_format)
    outcome = await hold(connector, "rekey", code, reference())
    assert outcome.new_code != code
    assert normalise(outcome.new_code, LUHN) == outcome.new_code
    assert check_ok(outcome.new_code, LUHN)
    old, new = await connector.verify([code, outcome.new_code], now=clock.now())
    assert (old.status, old.balance_fen) == (BalanceStatus.VOID, 0)
    assert (new.status, new.face_fen, new.balance_fen) == (BalanceStatus.KNOWN, 10_000, 7_000)
    assert (await draw(connector, "redeem", code, 100, reference())).reason == "void"


async def test_after_a_lost_reply_the_same_reference_brings_the_same_new_code(connector, issuer):
    code, ref = issue(issuer), reference()
    issuer.fault("lost_reply", match="rekey", next_n=1, delay_s=0.7)
    with pytest.raises(NoAnswer):
        await hold(connector, "rekey", code, ref)
    assert books(issuer, code)["void"] == 1
    first, second = [await hold(connector, "rekey", code, ref) for _ in range(2)]
    assert first.ok
    assert first.new_code == second.new_code
    assert (await hold(connector, "rekey", code, reference())).reason == "void"


async def test_a_draw_repeated_under_its_reference_is_drawn_once(connector, issuer):
    code, ref = issue(issuer), reference()
    issuer.fault("error_500_after", match="redeem", next_n=1)
    with pytest.raises(NoAnswer):
        await draw(connector, "redeem", code, 3_000, ref)
    outcome = await draw(connector, "redeem", code, 3_000, ref)
    assert (outcome.ok, outcome.balance_fen) == (True, 7_000)
    assert books(issuer, code)["balance_fen"] == 7_000
    assert (await draw(connector, "redeem", code, 3_001, ref)).reason == "reference_reused"


async def test_one_reference_twice_in_one_set_is_carried_out_once(connector, issuer):
    code, ref = issue(issuer), reference()
    twice = [RedeemRequest(code=code, amount_fen=4_000, reference=ref)] * 2
    outcomes = await connector.redeem(twice, now=clock.now())
    assert [outcome.balance_fen for outcome in outcomes] == [6_000, 6_000]


async def test_draws_stop_at_the_balance_and_whole_vouchers_are_not_divided(connector, issuer):
    code, whole = issue(issuer), issue(issuer, whole_value_only=True)
    assert (await draw(connector, "redeem", code, 10_001, reference())).reason == "insufficient_balance"
    assert (await draw(connector, "redeem", whole, 9_999, reference())).reason == "whole_value_only"
    assert (await draw(connector, "redeem", whole, 10_000, reference())).balance_fen == 0


async def test_a_reversal_gives_back_at_most_what_its_reference_drew(connector, issuer):
    code, ref = issue(issuer), reference()
    await draw(connector, "redeem", code, 4_000, ref)
    assert (await draw(connector, "reverse", code, 4_001, ref)).reason == "unknown_reference"
    other = issue(issuer)
    await draw(connector, "redeem", other, 500, ref2 := reference())
    assert (await draw(connector, "reverse", code, 500, ref2)).reason == "unknown_reference"
    assert (await draw(connector, "reverse", code, 4_000, reference())).reason == "unknown_reference"
    code2, ref3 = issue(issuer), reference()
    await draw(connector, "redeem", code2, 4_000, ref3)
    outcomes = [await draw(connector, "reverse", code2, 4_000, ref3) for _ in range(2)]
    assert [outcome.balance_fen for outcome in outcomes] == [10_000, 10_000]
    assert books(issuer, code2)["balance_fen"] == 10_000


async def test_an_extension_moves_expiry_later_and_only_later(connector, issuer):
    code, lapsed = issue(issuer), issue(issuer, expires_at=clock.now() - timedelta(days=1))
    later, sooner = NEXT_YEAR + timedelta(days=90), NEXT_YEAR - timedelta(days=1)
    requests = [
        ExtendRequest(code=code, expires_at=later, reference=reference()),
        ExtendRequest(code=code, expires_at=sooner, reference=reference()),
        ExtendRequest(code=lapsed, expires_at=later, reference=reference()),
    ]
    moved, refused, revived = await connector.extend(requests, now=clock.now())
    assert moved.expires_at == later
    assert refused.reason == "not_later"
    assert revived.ok
    assert (await verify_one(connector, lapsed)).status is BalanceStatus.KNOWN


async def test_an_expired_voucher_is_neither_locked_nor_rekeyed_nor_redeemed(connector, issuer):
    code = issue(issuer, expires_at=clock.now() - timedelta(seconds=1))
    outcomes = [
        await hold(connector, "lock", code, reference()),
        await hold(connector, "rekey", code, reference()),
        await draw(connector, "redeem", code, 100, reference()),
    ]
    assert [outcome.reason for outcome in outcomes] == ["expired"] * 3


async def test_what_an_issuer_cannot_do_it_says_so(connector, issuer):
    limited = {**voucher("KDLIMITED"), "issuer": "iss_limited"}
    issuer.call("/control/vouchers", [limited])
    issuer.call("/control/issuers", {"issuer": "iss_limited", "capabilities": ["verify", "redeem"]})
    async with http_client() as http:
        other = reach(http, issuer.url, secret=issuer.secret, issuer="iss_limited")
        assert (await hold(other, "rekey", "KDLIMITED", reference())).reason == "not_supported"
        assert (await verify_one(other, "KDLIMITED")).status is BalanceStatus.KNOWN


async def test_an_issuer_nobody_knows_gives_no_answer(issuer):
    async with http_client() as http:
        with pytest.raises(NoAnswer):
            await verify_one(reach(http, issuer.url, secret=issuer.secret, issuer="iss_nobody"), "KD1")


@pytest.mark.parametrize("kind", ["slow", "error_500_before", "lost_reply"])
async def test_silence_raises_and_asking_again_is_safe(connector, issuer, kind):
    code, ref = issue(issuer), reference()
    issuer.fault(kind, match="lock", next_n=1, delay_s=0.7)
    with pytest.raises(NoAnswer):
        await hold(connector, "lock", code, ref)
    assert (await hold(connector, "lock", code, ref)).ok


@pytest.mark.parametrize("variant", ["negative", "above_face"])
async def test_an_impossible_balance_is_nonsense_and_not_believed(connector, issuer, variant):
    code = issue(issuer)
    issuer.fault("wrong_balance", match=code, next_n=1, variant=variant)
    with pytest.raises(IssuerAnsweredNonsense):
        await verify_one(connector, code)
    assert (await verify_one(connector, code)).balance_fen == 10_000


async def test_a_possible_but_wrong_balance_is_believed_once(connector, issuer):
    """Nobody can tell from the answer alone; the price follows it and the next check shows the truth."""
    code = issue(issuer)
    issuer.fault("wrong_balance", match=code, next_n=1, variant="halved")
    assert (await verify_one(connector, code)).balance_fen == 5_000
    assert (await verify_one(connector, code)).balance_fen == 10_000


KNOWN = {"status": "known", "face_fen": 100, "balance_fen": 100, "expires_at": "2027-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "body",
    [
        b"<html>busy</html>",
        {"results": []},
        {"results": [KNOWN, KNOWN]},
        {"results": [{**KNOWN, "balance_fen": 100.5}]},
        {"results": [{**KNOWN, "face_fen": 0, "balance_fen": 0}]},
        {"results": [{**KNOWN, "balance_fen": 0}]},
        {"results": [{**KNOWN, "expires_at": "2027-01-01T00:00:00"}]},
        {"results": [{**KNOWN, "status": "fine"}]},
        {"results": [{"status": "known"}]},
    ],
)
async def test_a_check_that_makes_no_sense_is_no_answer(body):
    async with answering(200, body) as url, http_client() as http:
        with pytest.raises(NoAnswer):
            await verify_one(reach(http, url), "KD1")


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("lock", {"ok": False}),
        ("lock", {"ok": True, "reason": "locked_by_other"}),
        ("rekey", {"ok": True}),
        ("rekey", {"ok": True, "new_code": "KD1"}),
        ("redeem", {"ok": True}),
        ("redeem", {"ok": True, "balance_fen": -1}),
        ("reverse", {"ok": True}),
    ],
)
async def test_an_outcome_that_makes_no_sense_is_no_answer(operation, result):
    act = draw if operation in {"redeem", "reverse"} else hold
    amount = (100,) if act is draw else ()
    async with answering(200, {"results": [result]}) as url, http_client() as http:
        with pytest.raises(NoAnswer):
            await act(reach(http, url), operation, "KD1", *amount, reference())


async def test_one_new_code_for_two_vouchers_is_nonsense():
    results = [{"ok": True, "new_code": "KD9"}] * 2
    async with answering(200, {"results": results}) as url, http_client() as http:
        requests = [HoldRequest(code=code, reference=code) for code in ("KD1", "KD2")]
        with pytest.raises(IssuerAnsweredNonsense):
            await reach(http, url).rekey(requests, now=clock.now())


async def test_the_books_survive_a_kill_and_the_seed_does_not_undo_them(tmp_path):
    seed_file = tmp_path / "seed.jsonl"
    seed_file.write_text(json.dumps(voucher("KDKEPT")))
    with start_sandbox("issuer", tmp_path, seed_file=seed_file) as issuer:
        async with http_client() as http:
            connector = reach(http, issuer.url, secret=issuer.secret)
            await draw(connector, "redeem", "KDKEPT", 2_500, "draw")
            new_code = (await hold(connector, "rekey", "KDKEPT", "rekey")).new_code
        issuer.kill()
    with issuer.start_again() as issuer:
        async with http_client() as http:
            connector = reach(http, issuer.url, secret=issuer.secret)
            old, new = await connector.verify(["KDKEPT", new_code], now=clock.now())
            assert (old.status, new.balance_fen) == (BalanceStatus.VOID, 7_500)
            assert (await hold(connector, "rekey", "KDKEPT", "rekey")).new_code == new_code
