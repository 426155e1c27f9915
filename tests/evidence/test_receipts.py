import json
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from evidence.logs import event, sequence_in, signer
from quanhui import evidence, verifier
from quanhui.base.errors import NotFound
from quanhui.evidence import BeyondCheckpoint, ReceiptNotReady, ReceiptTooLarge, actions

VKEY = signer().verifier_key


@pytest.fixture
async def log(db, now):
    """A log of 300 strangers, with the path of voucher 1 through an order and a sale among them."""
    await evidence.record(db, [event(1, face_fen=10_000, brand="全惠超市"), event(2)], now=now)
    await evidence.record(db, [event(1, "title_transferred"), event(2, "title_transferred")], now=now)
    await evidence.record(db, [event(number, subject="ord_9") for number in range(1000, 1300)], now=now)
    await sequence_in(db, now)
    await evidence.record(db, [event(1, "sold", "pur_1"), event(1, "revealed", "pur_1")], now=now)
    await sequence_in(db, now)
    return db


async def receipt_of(log, *subjects):
    return msgspec.json.encode(await evidence.receipt(log, subjects))


def is_proved(raw, vkey=VKEY):
    try:
        findings = verifier.verify_receipt(verifier.read_receipt(raw), vkey)
    except verifier.NotProved:
        return False
    return bool(findings) and all(finding.ok for finding in findings)


async def test_a_receipt_proves_every_event_of_an_order(log):
    raw = await receipt_of(log, "ord_1")
    findings = verifier.verify_receipt(verifier.read_receipt(raw), VKEY)
    assert [finding.ok for finding in findings] == [True] * 5
    assert "检查点签名有效" in findings[0].zh
    assert [finding.en.split()[1] for finding in findings[1:]] == [
        "claimed",
        "claimed",
        "title_transferred",
        "title_transferred",
    ]
    assert "2026-11-22 12:00:00（北京时间）受理占用 vch_1 ord_1：在日志第 0 条" in findings[1].zh


async def test_a_receipt_of_a_sale_says_that_earlier_events_are_not_shown(log):
    findings = verifier.verify_receipt(verifier.read_receipt(await receipt_of(log, "pur_1")), VKEY)
    assert all(finding.ok for finding in findings)
    assert "2 events before it are not shown" in findings[1].en
    assert "tied to the one before" in findings[2].en


async def test_the_receipt_of_a_voucher_shows_its_whole_path(log):
    whole = await evidence.voucher_receipt(log, "vch_1")
    assert [each.payload["kind"] for each in whole.events] == [
        "claimed",
        "title_transferred",
        "sold",
        "revealed",
    ]
    assert is_proved(msgspec.json.encode(whole))


async def test_a_receipt_is_not_ready_until_its_newest_event_is_signed(log, now):
    await evidence.record(log, [event(1, "redeemed", "pur_1")], now=now)
    with pytest.raises(ReceiptNotReady):
        await receipt_of(log, "pur_1")
    assert is_proved(await receipt_of(log, "ord_1"))
    await sequence_in(log, now)
    assert is_proved(await receipt_of(log, "pur_1"))


async def test_nobody_gets_a_receipt_of_what_never_happened_or_of_too_much(log, monkeypatch):
    with pytest.raises(NotFound):
        await receipt_of(log, "ord_404")
    monkeypatch.setattr(actions, "RECEIPT_EVENTS", 3)
    with pytest.raises(ReceiptTooLarge):
        await receipt_of(log, "ord_1")


async def test_a_receipt_with_any_one_byte_changed_is_not_proved(log):
    raw = await receipt_of(log, "ord_1")
    assert is_proved(raw)
    choose = random.Random(7)
    for at, byte in enumerate(raw):
        for other in {byte ^ 1, byte ^ 0x20, choose.choice(b"0 Aa"), choose.randrange(256)} - {byte}:
            changed = raw[:at] + bytes([other]) + raw[at + 1 :]
            assert not is_proved(changed), (at, raw[at : at + 20], changed[at : at + 20])


async def test_a_receipt_with_any_part_removed_swapped_or_added_is_not_proved(log):
    receipt = json.loads(await receipt_of(log, "ord_1"))
    for spoil in (
        lambda it: it["events"].reverse(),
        lambda it: it["events"].append(it["events"][0]),
        lambda it: it["events"].clear(),
        lambda it: it["events"][0].pop("tag"),
        lambda it: it["events"][0]["proof"].pop(),
        lambda it: it["events"][0]["proof"].append("00" * 32),
        lambda it: it["events"][0]["payload"].update(more=1),
        lambda it: it["events"][0]["payload"]["facts"].update(more=1),
        lambda it: it["events"][0]["payload"].update(sequence=True),
        lambda it: it["events"][0].update(leaf_index=False),
        lambda it: it.update(more=1),
        lambda it: it.update(events={}),
        lambda it: it.update(checkpoint=None),
    ):
        spoiled = json.loads(json.dumps(receipt))
        spoil(spoiled)
        assert not is_proved(json.dumps(spoiled).encode()), spoiled
    for not_a_receipt in (b"", b"[]", b"null", b"\xff", b'{"a":1,"a":1}', b"[" * 100_000, b"1" * 5000):
        assert not is_proved(not_a_receipt)


async def test_a_receipt_is_worth_nothing_under_a_key_one_did_not_choose(log):
    other = evidence.Signer(origin="test.example/quanhui", seed=bytes(32)).verifier_key
    receipt = json.loads(await receipt_of(log, "ord_1"))
    assert not is_proved(json.dumps(receipt).encode(), other)
    assert not is_proved(json.dumps({**receipt, "verifier_key": other}).encode(), other)


async def test_an_event_cut_out_of_the_middle_of_a_path_is_named_and_a_false_link_is_refused(log, now):
    whole = msgspec.to_builtins(await evidence.voucher_receipt(log, "vch_1"))
    without = {**whole, "events": [whole["events"][0], *whole["events"][2:]]}
    assert "1 events before it are not shown" in verifier.verify_receipt(without, VKEY)[2].en
    first, second = whole["events"][:2]
    with pytest.raises(verifier.NotProved):
        verifier._check_link(second["payload"], (1, bytes(32)))
    with pytest.raises(verifier.NotProved):
        verifier._check_link(first["payload"], (1, bytes(32)))


async def test_proofs_reach_as_far_as_the_signed_tree_and_no_further(log, now):
    await evidence.record(log, [event(1)], now=now)
    size = (await evidence.latest_checkpoint(log)).size
    assert len(await evidence.inclusion_proof(log, size - 1, size)) > 0
    assert await evidence.consistency_proof(log, size, size) == []
    for leaf, of in ((size, size), (0, size + 1), (-1, size), (0, 0)):
        with pytest.raises(BeyondCheckpoint):
            await evidence.inclusion_proof(log, leaf, of)
    for first, second in ((0, size), (1, size + 1), (size, size - 1)):
        with pytest.raises(BeyondCheckpoint):
            await evidence.consistency_proof(log, first, second)


async def test_a_receipt_costs_four_queries_however_many_events_it_has(log):
    asked = []
    log.add_query_logger(asked.append)
    await evidence.receipt(log, ["ord_9"])
    log.remove_query_logger(asked.append)
    assert len(asked) <= 4


async def test_the_command_line_says_in_two_languages_what_it_proved(log, tmp_path):
    receipt, kept, growth = (tmp_path / name for name in ("receipt.json", "kept.txt", "growth.json"))
    receipt.write_bytes(await receipt_of(log, "pur_1"))
    kept.write_text(signer().sign(await head_at(log, 304)))
    hashes = [each.hex() for each in await evidence.consistency_proof(log, 304, 306)]
    growth.write_text(json.dumps({"first": 304, "second": 306, "hashes": hashes}))
    since = ["--kept", str(kept), "--growth", str(growth)]
    status, said = run(str(receipt), "--vkey", VKEY, *since)
    assert status == verifier.EXIT_PROVED, said
    assert "结论：已证明 / PROVED" in said
    assert "日志只增未改：前 304 条" in said
    assert "vch_1 pur_1" in said
    growth.write_text(json.dumps({"first": 304, "second": 306, "hashes": hashes[::-1]}))
    assert run(str(receipt), "--vkey", VKEY, *since)[0] == verifier.EXIT_NOT_PROVED
    receipt.write_bytes(receipt.read_bytes().replace("全惠".encode(), b"xx").replace(b"pur_1", b"pur_2"))
    status, said = run(str(receipt), "--vkey", VKEY)
    assert (status, "未能证明 / NOT PROVED" in said) == (verifier.EXIT_NOT_PROVED, True)
    assert run(str(tmp_path / "nothing"), "--vkey", VKEY)[0] == verifier.EXIT_UNREADABLE


async def head_at(db, size):
    root = evidence.store.range_hash(
        await evidence.store.find_tiles(db, evidence.tree.tile_keys([(0, size)])), (0, size)
    )
    return evidence.TreeHead(size, root)


def run(*arguments):
    """The verifier as a program, copied away from the package: it must stand alone."""
    program = Path(verifier.__file__).read_bytes()
    done = subprocess.run(
        [sys.executable, "-I", "-c", program.decode(), *arguments],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "utf-8"},
        cwd="/",
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def test_the_verifier_imports_nothing_of_the_platform():
    program = Path(verifier.__file__).read_text()
    imported = {
        line.split()[1].split(".")[0]
        for line in program.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}
