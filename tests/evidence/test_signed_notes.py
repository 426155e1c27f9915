import base64
import json

import pytest

from evidence.logs import ORIGIN, SEED, signer, vectors
from quanhui import verifier
from quanhui.evidence import Signer, SignerRefuses, TreeHead, tree
from quanhui.evidence.signer import checkpoint_text

ROOTS = [tree.leaf_hash(bytes([number])) for number in range(3)]


def test_what_we_sign_the_verifier_opens():
    mine = signer()
    note = mine.sign(TreeHead(7, ROOTS[0]))
    assert verifier.open_checkpoint(note, mine.verifier_key) == verifier.Checkpoint(ORIGIN, 7, ROOTS[0])


def test_a_note_of_another_key_or_with_another_text_is_refused():
    mine, other = signer(), Signer(origin=ORIGIN, seed=bytes(32))
    note = mine.sign(TreeHead(7, ROOTS[0]))
    for wrong, key in (
        (note, other.verifier_key),
        (note.replace("\n7\n", "\n8\n"), mine.verifier_key),
        (note.removesuffix("\n"), mine.verifier_key),
        (note.split("\n\n")[0], mine.verifier_key),
        (note.replace("\n", "\r\n"), mine.verifier_key),
    ):
        with pytest.raises(verifier.NotProved):
            verifier.open_checkpoint(wrong, key)


def test_signatures_of_strangers_are_ignored_but_prove_nothing():
    mine, stranger = signer(), Signer(origin="witness.example", seed=bytes(32))
    head = TreeHead(7, ROOTS[0])
    text = checkpoint_text(ORIGIN, head)
    mark = stranger.sign_note(text).split("\n\n")[1]
    assert verifier.open_checkpoint(mine.sign(head) + mark, mine.verifier_key).size == 7
    with pytest.raises(verifier.NotProved):
        verifier.open_checkpoint(f"{text}\n{mark}", mine.verifier_key)


def test_the_signer_refuses_a_smaller_tree():
    mine = signer()
    mine.sign(TreeHead(5, ROOTS[0]))
    with pytest.raises(SignerRefuses):
        mine.sign(TreeHead(4, ROOTS[1]))


def test_the_signer_refuses_a_second_root_at_one_size():
    mine = signer()
    first = mine.sign(TreeHead(5, ROOTS[0]))
    with pytest.raises(SignerRefuses):
        mine.sign(TreeHead(5, ROOTS[1]))
    assert mine.sign(TreeHead(5, ROOTS[0])) == first


def test_the_signer_refuses_a_larger_tree_that_does_not_contain_the_one_it_signed():
    hashes = [tree.leaf_hash(bytes([number])) for number in range(9)]
    honest = tree.grow({}, 0, hashes)
    forked = tree.grow({}, 0, [ROOTS[2], *hashes[1:]])
    ranges = tree.consistency_ranges(5, 9)
    mine = signer()
    mine.sign(TreeHead(5, tree.root(honest, 5)))
    with pytest.raises(SignerRefuses):
        mine.sign(TreeHead(9, tree.root(forked, 9)), [tree.range_hash(forked, each) for each in ranges])
    mine.sign(TreeHead(9, tree.root(honest, 9)), [tree.range_hash(honest, each) for each in ranges])


def test_the_memory_of_the_signer_outlives_its_process(tmp_path):
    file = tmp_path / "signer.json"
    signer(state_file=file).sign(TreeHead(5, ROOTS[0]))
    reborn = signer(state_file=file)
    reborn.start_from(TreeHead(3, ROOTS[1]))
    assert reborn.last == TreeHead(5, ROOTS[0])
    with pytest.raises(SignerRefuses):
        reborn.sign(TreeHead(4, ROOTS[1]))


def test_a_seed_of_another_length_or_an_origin_with_a_plus_is_no_signer():
    for origin, seed in ((ORIGIN, SEED[:-1]), ("a+b", SEED), ("a b", SEED), ("", SEED)):
        with pytest.raises(ValueError, match="signer"):
            Signer(origin=origin, seed=seed)


def test_published_notes_sign_and_verify():
    known = json.loads(vectors("go-sumdb/note_vectors.json").read_text())
    name, _, key = known["skeys"]["peter"].removeprefix("PRIVATE+KEY+").split("+", 2)
    peter = Signer(origin=name, seed=base64.b64decode(key)[1:])
    assert peter.verifier_key == known["vkeys"]["peter"]
    assert peter.sign_note(known["text"]) == f"{known['text']}\n{known['sig_peter']}\n"
    both = f"{known['text']}\n{known['sig_peter']}\n{known['sig_enoch']}\n"
    for vkey in known["vkeys"].values():
        assert verifier.open_note(both, vkey) == known["text"]
    for vkey in known["bad_vkeys"]:
        with pytest.raises(verifier.NotProved):
            verifier.read_vkey(vkey)


def test_published_tree_note_has_our_form():
    known = json.loads(vectors("go-sumdb/note_vectors.json").read_text())["tree_note"]
    root = tree.leaf_hash(known["record"].encode())
    assert base64.b64encode(root).decode() == known["record_hash_b64"]
    text = checkpoint_text("go.sum database tree", TreeHead(known["n"], root))
    assert text == f"go.sum database tree\n{known['n']}\n{known['record_hash_b64']}\n"


def test_published_checkpoints_open_and_none_opens_with_one_letter_changed():
    vkey = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
    folder = vectors("tessera-log/testdata/log")
    for size in range(16):
        note = (folder / f"checkpoint.{size}").read_text()
        assert verifier.open_checkpoint(note, vkey).size == size
    for at in range(len(note)):
        changed = note[:at] + ("A" if note[at] != "A" else "B") + note[at + 1 :]
        with pytest.raises(verifier.NotProved):
            verifier.open_checkpoint(changed, vkey)
