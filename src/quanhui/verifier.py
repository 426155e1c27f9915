"""Check a receipt of the evidence log with a program of your own: 存证凭证独立验证程序。

    python verifier.py receipt.json --vkey 'example.com/quanhui+33d7b496+AeHT…'

One file, the standard library and `cryptography`; it imports nothing of the platform and shares no code
with the program that writes the log, so an error there cannot hide an error here. It proves that each event
in the receipt is, unaltered and in this order, in the log that the holder of the key signed. Take the
key from a place you trust (a contract, a court filing, a printed notice), never from the receipt.

With `--kept` and `--growth` it also proves that the log still holds, unaltered, everything it held when
an earlier checkpoint was kept: `growth` is the answer of `/v1/evidence/proofs/consistency`.

Sources: RFC 9162 2.1.3.2 and 2.1.4.2, https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint.
"""

import argparse
import base64
import binascii
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "quanhui-receipt/v1"
LARGEST_FILE = 4_000_000
SAFE_INTEGER = 2**53 - 1
HASH_BYTES = 32
EXIT_PROVED, EXIT_NOT_PROVED, EXIT_UNREADABLE = 0, 1, 2
KINDS_ZH = {
    "claimed": "受理占用",
    "released": "解除占用",
    "title_transferred": "权属转移",
    "rekeyed": "更换券码",
    "listed": "挂售",
    "delisted": "下架",
    "expired_in_stock": "在库过期",
    "reserved": "预占",
    "unreserved": "解除预占",
    "sold": "售出",
    "revealed": "揭码",
    "disputed": "发起争议",
    "upheld": "争议不成立",
    "refunded": "退款",
    "returned": "退回",
    "redeemed": "核销",
    "reversed": "冲正",
    "frozen": "冻结",
    "unfrozen": "解冻",
    "payout_succeeded": "出款成功",
}
_INSTANT = re.compile(r"[12]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_WORD = re.compile(r"[a-z][a-z0-9_]{0,23}", re.ASCII)
_HEX32 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class NotProved(Exception):
    """Something does not hold. Carries the reason in Chinese and in English."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh = zh
        self.en = en


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    ok: bool
    zh: str
    en: str


@dataclass(frozen=True)
class Checkpoint:
    """A signed tree head, its signature already checked."""

    origin: str
    size: int
    root: bytes


def verify_receipt(receipt: object, vkey: str) -> list[Finding]:
    """Check a receipt against the log's key; proved only if `all(finding.ok for finding in …)`.

    Never raises for anything a receipt may hold, and never returns an empty list.
    """
    try:
        fields = _fields(receipt, {"format", "verifier_key", "checkpoint", "events"})
        _require(fields["format"] == FORMAT, "不支持的凭证格式", "unknown receipt format")
        _require(fields["verifier_key"] == vkey, "凭证来自另一个密钥", "the receipt names another key")
        checkpoint = open_checkpoint(fields["checkpoint"], vkey)
        events = fields["events"]
        _require(isinstance(events, list) and bool(events), "凭证中没有事件", "the receipt has no events")
    except NotProved as failure:
        return [Finding(ok=False, zh=failure.zh, en=failure.en)]
    signed = Finding(
        ok=True,
        zh=f"检查点签名有效：日志 {checkpoint.origin}，共 {checkpoint.size} 条",
        en=f"the checkpoint is signed: log {checkpoint.origin}, {checkpoint.size} leaves",
    )
    return [signed, *_check_events(events, checkpoint)]


def verify_growth(kept_note: str, later_note: str, growth: object, vkey: str) -> Finding:
    """Check that the log at a later checkpoint begins with the whole log at a checkpoint kept before.

    `growth` has `first`, `second` and `hashes` (hex), as the log's API answers.
    """
    try:
        kept, later = open_checkpoint(kept_note, vkey), open_checkpoint(later_note, vkey)
        fields = _fields(growth, {"first", "second", "hashes"})
        sizes = (fields["first"], fields["second"])
        _require(sizes == (kept.size, later.size), "证明的大小与检查点不符", "the proof is for other sizes")
        verify_consistency(kept.size, later.size, kept.root, later.root, _hashes(fields["hashes"]))
    except NotProved as failure:
        return Finding(ok=False, zh=failure.zh, en=failure.en)
    return Finding(
        ok=True,
        zh=f"日志只增未改：前 {kept.size} 条与当时保存的检查点一致",
        en=f"the log only grew: its first {kept.size} leaves are those of the kept checkpoint",
    )


def read_receipt(raw: bytes) -> object:
    """Parse JSON strictly: UTF-8, no repeated names, no fractions. Raises `NotProved`."""
    _require(len(raw) <= LARGEST_FILE, "文件过大", "the file is too large")
    try:
        return json.loads(
            raw.decode(), object_pairs_hook=_unique, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise NotProved("不是有效的 JSON", "not valid JSON") from error


def open_checkpoint(note: object, vkey: str) -> Checkpoint:
    """Check a checkpoint's signature and read it; lines after the root are extensions. Raises `NotProved`."""
    lines = open_note(note, vkey).split("\n")
    name = vkey.split("+", maxsplit=1)[0]
    well_formed = len(lines) >= len(("origin", "size", "root", "")) and all(lines[:-1])
    _require(well_formed and bool(_SIZE.fullmatch(lines[1])), "检查点格式错误", "malformed checkpoint")
    _require(lines[0] == name, "检查点来自另一个日志", "the checkpoint is of another log")
    root = _base64(lines[2])
    _require(len(root) == HASH_BYTES, "检查点格式错误", "malformed checkpoint")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_note(note: object, vkey: str) -> str:
    """The text of a signed note if the key signed it; signatures of others are ignored. `NotProved`."""
    name, key_hash, public = read_vkey(vkey)
    if not isinstance(note, str) or any(each < " " and each != "\n" for each in note):
        raise NotProved("签名文本格式错误", "malformed signed note")
    text, separator, signatures = note.rpartition("\n\n")
    _require(bool(separator) and signatures.endswith("\n"), "签名文本格式错误", "malformed signed note")
    text += "\n"
    proved = False
    for line in signatures[:-1].split("\n"):
        parts = line.split(" ")
        well_formed = len(parts) == len(("—", "name", "signature")) and parts[0] == "—" and bool(parts[1])
        _require(well_formed, "签名行格式错误", "malformed signature line")
        signature = _base64(parts[2])
        _require(len(signature) > len(key_hash), "签名行格式错误", "malformed signature line")
        if parts[1] == name and signature.startswith(key_hash):
            try:
                public.verify(signature[len(key_hash) :], text.encode())
            except (InvalidSignature, ValueError) as error:
                raise NotProved("签名无效", "the signature is wrong") from error
            proved = True
    _require(proved, "没有该密钥的签名", "not signed by this key")
    return text


def read_vkey(vkey: str) -> tuple[str, bytes, Ed25519PublicKey]:
    """Name, key hash and Ed25519 key of `name+hash+base64`. Raises `NotProved`."""
    parts = vkey.split("+", 2)  # base64 has plus signs of its own
    well_formed = len(parts) == len(("name", "hash", "key")) and bool(re.fullmatch(r"\S+", parts[0]))
    _require(well_formed, "验证密钥格式错误", "malformed verifier key")
    key = _base64(parts[2])
    known = len(key) == 1 + 32 and key[:1] == b"\x01"
    _require(known, "不支持的验证密钥", "not an Ed25519 verifier key")
    key_hash = hashlib.sha256(parts[0].encode() + b"\n" + key).digest()[:4]
    _require(key_hash.hex() == parts[1], "验证密钥校验错误", "the verifier key does not match its hash")
    return parts[0], key_hash, Ed25519PublicKey.from_public_bytes(key[1:])


def verify_inclusion(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162, 2.1.3.2: `leaf` is the leaf's hash. Raises `NotProved`."""
    ok = 0 <= index < size and len(leaf) == len(root) == HASH_BYTES
    number, last, computed = index, size - 1, leaf
    for sibling in proof if ok else ():
        if last == 0:
            ok = False
            break
        if number & 1 or number == last:
            computed = _parent(sibling, computed)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            computed = _parent(computed, sibling)
        number, last = number >> 1, last >> 1
    _require(
        ok and last == 0 and computed == root,
        "包含证明不成立：该事件不在日志中",
        "the inclusion proof fails: the event is not in the log",
    )


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """RFC 9162, 2.1.4.2. A proof from size 0 would show nothing and is refused. Raises `NotProved`."""
    ok = _grew(first, second, first_root, second_root, list(proof))
    _require(ok, "一致性证明不成立：日志被改写", "the consistency proof fails: the log was rewritten")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: prints what was proved, in Chinese and English. 0 proved, 1 not proved, 2 unreadable."""
    parser = argparse.ArgumentParser(prog="verifier", description="验证存证凭证 / verify a receipt")
    parser.add_argument("receipt", type=Path, help="凭证文件 / the receipt, a JSON file")
    parser.add_argument("--vkey", required=True, help="日志的验证密钥 / the log's verifier key")
    parser.add_argument("--kept", type=Path, help="以前保存的检查点 / a checkpoint kept before")
    parser.add_argument("--growth", type=Path, help="其间的一致性证明 / the consistency proof since then")
    given = parser.parse_args(arguments)
    if (given.kept is None) != (given.growth is None):
        parser.error("--kept 与 --growth 须同时给出 / --kept and --growth belong together")
    try:
        receipt = read_receipt(given.receipt.read_bytes())
        findings = verify_receipt(receipt, given.vkey)
        if given.kept and all(finding.ok for finding in findings):
            growth = read_receipt(given.growth.read_bytes())
            kept = given.kept.read_text(encoding="utf-8")
            later = receipt["checkpoint"] if isinstance(receipt, dict) else ""
            findings.append(verify_growth(kept, later, growth, given.vkey))
    except (OSError, UnicodeDecodeError) as error:
        _say(f"✗ 无法读取文件 / cannot read the file: {error}")
        return EXIT_UNREADABLE
    except NotProved as failure:
        _say(f"✗ {failure.zh} / {failure.en}")
        return EXIT_UNREADABLE
    for finding in findings:
        _say(f"{'✓' if finding.ok else '✗'} {finding.zh}\n  {finding.en}")
    proved = all(finding.ok for finding in findings)
    _say("结论：已证明 / PROVED" if proved else "结论：未能证明 / NOT PROVED")
    return EXIT_PROVED if proved else EXIT_NOT_PROVED


def _check_events(events: list[object], checkpoint: Checkpoint) -> list[Finding]:
    findings = []
    newest: dict[str, tuple[int, bytes]] = {}
    after = -1
    for event in events:
        try:
            index, payload, leaf = _open_event(event, checkpoint)
            _require(index > after, "事件顺序错误", "the events are out of order")
            after = index
            voucher, sequence = payload["voucher_id"], payload["sequence"]
            missing = _check_link(payload, newest.get(voucher))
            newest[voucher] = (sequence, leaf)
            findings.append(_event_finding(payload, index, missing))
        except NotProved as failure:
            findings.append(Finding(ok=False, zh=failure.zh, en=failure.en))
    return findings


def _open_event(event: object, checkpoint: Checkpoint) -> tuple[int, dict[str, Any], bytes]:
    """Rebuild the leaf from what the receipt shows and prove that it is in the tree."""
    fields = _fields(event, {"leaf_index", "payload", "salt", "tag", "proof"})
    index = fields["leaf_index"]
    _require(type(index) is int and index >= 0, "叶序号错误", "malformed leaf index")
    payload = _payload(fields["payload"])
    try:
        canonical = json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        moment = datetime.fromisoformat(payload["at"])
    except ValueError as error:
        raise NotProved("事件内容格式错误", "malformed event") from error
    hours = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(hours=1)
    _require(0 <= hours < 1 << 32, "事件时间错误", "impossible time")
    commitment = hashlib.sha256(b"leaf/v1" + _hash(fields["salt"]) + canonical).digest()
    kind = payload["kind"].encode().ljust(24, b"\0")
    leaf = b"\x01" + kind + hours.to_bytes(4, "big") + _hash(fields["tag"]) + commitment
    leaf_hash = hashlib.sha256(b"\x00" + leaf).digest()
    verify_inclusion(index, checkpoint.size, leaf_hash, checkpoint.root, _hashes(fields["proof"]))
    return index, payload, leaf_hash


def _payload(value: object) -> dict[str, Any]:
    payload = _fields(value, {"at", "facts", "kind", "prev", "sequence", "subject", "voucher_id"})
    facts, sequence = payload["facts"], payload["sequence"]
    texts = [payload[name] for name in ("at", "kind", "prev", "subject", "voucher_id")]
    ok = (
        all(isinstance(text, str) for text in texts)
        and bool(_INSTANT.fullmatch(payload["at"]))
        and bool(_WORD.fullmatch(payload["kind"]))
        and type(sequence) is int
        and 0 < sequence <= SAFE_INTEGER
        and isinstance(facts, dict)
        and all(_is_fact(fact) for fact in facts.values())
    )
    _require(ok, "事件内容格式错误", "malformed event")
    return payload


def _is_fact(fact: object) -> bool:
    return isinstance(fact, str | bool) or (type(fact) is int and abs(fact) <= SAFE_INTEGER)


def _check_link(payload: dict[str, Any], before: tuple[int, bytes] | None) -> int:
    """Check the tie to the voucher's event before; returns how many events between are not shown."""
    sequence: int = payload["sequence"]
    prev = payload["prev"]
    if sequence == 1:
        _require(prev == "" and before is None, "事件链断裂", "the chain of events is broken")
        return 0
    linked = _hash(prev)
    shown, leaf = before or (0, linked)
    ok = sequence > shown and (sequence > shown + 1 or linked == leaf)
    _require(ok, "事件链断裂", "the chain of events is broken")
    return sequence - shown - 1


def _event_finding(payload: dict[str, Any], index: int, missing: int) -> Finding:
    local = datetime.fromisoformat(payload["at"]).astimezone(timezone(timedelta(hours=8)))
    kind, when = payload["kind"], f"{local:%Y-%m-%d %H:%M:%S}"
    what = f"{payload['voucher_id']} {payload['subject']}"
    linked_zh = f"；其前另有 {missing} 条本凭证未出示的事件" if missing else "，与前一事件相连"
    linked_en = f"; {missing} events before it are not shown here" if missing else ", tied to the one before"
    if payload["sequence"] == 1:
        linked_zh, linked_en = "，为该券首个事件", ", the first of its voucher"
    return Finding(
        ok=True,
        zh=f"{when}（北京时间）{KINDS_ZH.get(kind, kind)} {what}：在日志第 {index} 条{linked_zh}",
        en=f"{payload['at']} {kind} {what}: is leaf {index}{linked_en}",
    )


def _grew(first: int, second: int, first_root: bytes, second_root: bytes, proof: list[bytes]) -> bool:
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    if first & (first - 1) == 0:
        proof.insert(0, first_root)
    if not proof:
        return False
    number, last = first - 1, second - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = proof[0]
    for sibling in proof[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            old, new = _parent(sibling, old), _parent(sibling, new)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            new = _parent(new, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _require(holds: bool, zh: str, en: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise NotProved(zh, en)


def _fields(value: object, names: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise NotProved("凭证字段缺失或多余", "fields are missing or unknown")
    return value


def _hash(text: object) -> bytes:
    if not isinstance(text, str) or not _HEX32.fullmatch(text):
        raise NotProved("哈希值格式错误", "malformed hash")
    return bytes.fromhex(text)


def _hashes(texts: object) -> list[bytes]:
    if not isinstance(texts, list) or len(texts) > 2 * 64:
        raise NotProved("证明格式错误", "malformed proof")
    return [_hash(text) for text in texts]


def _base64(text: str) -> bytes:
    """Strict base64: one text for one value, so that no letter can be changed unseen."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotProved("Base64 格式错误", "malformed base64") from error
    _require(base64.b64encode(value).decode() == text, "Base64 格式错误", "malformed base64")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"not an integer: {text}")


def _say(text: str) -> None:
    print(text)  # noqa: T201 - a command-line program


if __name__ == "__main__":
    sys.exit(main())
