import base64
import hashlib
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from evidence.logs import naive_root, vectors
from quanhui import verifier
from quanhui.evidence import tree

CERTIFICATE_TRANSPARENCY_LEAVES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CERTIFICATE_TRANSPARENCY_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def build(leaves, steps=None):
    """Tiles of a tree grown in the given steps."""
    tiles, size = {}, 0
    hashes = [tree.leaf_hash(leaf) for leaf in leaves]
    for end in [*(steps or []), len(leaves)]:
        tiles |= tree.grow(tiles, size, hashes[size:end])
        size = end
    return tiles


def prove(tiles, ranges):
    return [tree.range_hash(tiles, each) for each in ranges]


def leaves_of(count):
    return [str(number).encode() for number in range(count)]


@pytest.mark.parametrize("size", range(9))
def test_the_roots_are_those_of_the_certificate_transparency_test_tree(size):
    tiles = build(CERTIFICATE_TRANSPARENCY_LEAVES[:size])
    assert tree.root(tiles, size).hex() == CERTIFICATE_TRANSPARENCY_ROOTS[size]


@given(st.integers(0, 1200), st.lists(st.integers(0, 1200), max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_tree_has_the_same_root_however_it_grew(size, steps):
    steps = sorted(step for step in steps if step <= size)
    tiles = build(leaves_of(size), steps)
    assert tree.root(tiles, size) == naive_root(leaves_of(size))
    assert tree.root({key: tiles[key] for key in tree.edge_keys(size)}, size) == tree.root(tiles, size)


@given(st.integers(1, 70_000), st.data())
@settings(max_examples=40, deadline=None)
def test_every_inclusion_proof_verifies_for_its_leaf_and_for_no_other(size, data):
    leaf = data.draw(st.integers(0, size - 1))
    stranger = data.draw(st.integers(0, size).filter(lambda other: other != leaf))
    proof = prove(BIG, tree.inclusion_ranges(leaf, size))
    root = tree.root(BIG, size)
    verifier.verify_inclusion(leaf, size, tree.leaf_hash(str(leaf).encode()), root, proof)
    with pytest.raises(verifier.NotProved):
        verifier.verify_inclusion(stranger, size, tree.leaf_hash(str(leaf).encode()), root, proof)


@given(st.integers(1, 70_000), st.integers(1, 70_000))
@settings(max_examples=60, deadline=None)
def test_every_consistency_proof_convinces_writer_and_verifier_alike(one, two):
    first, second = sorted((one, two))
    proof = prove(BIG, tree.consistency_ranges(first, second))
    roots = {"first_root": tree.root(BIG, first), "second_root": tree.root(BIG, second)}
    verifier.verify_consistency(first, second, *roots.values(), proof)
    assert tree.is_consistent(first=first, second=second, **roots, proof=proof)
    if proof:
        bent = [*proof[:-1], hashlib.sha256(proof[-1]).digest()]
        assert not tree.is_consistent(first=first, second=second, **roots, proof=bent)


@given(st.integers(1, 70_000), st.data())
@settings(max_examples=40, deadline=None)
def test_a_proof_reads_only_the_tiles_it_names(size, data):
    ranges = tree.inclusion_ranges(data.draw(st.integers(0, size - 1)), size)
    named = {key: BIG[key] for key in tree.tile_keys(ranges)}
    assert prove(named, ranges) == prove(BIG, ranges)


def test_published_inclusion_vectors():
    for file in sorted(vectors("merkle/testdata/inclusion").rglob("*.json")):
        case = json.loads(file.read_text())
        leaf, root, proof = decoded(case["leafHash"]), decoded(case["root"]), hashes_in(case)
        try:
            verifier.verify_inclusion(case["leafIdx"], case["treeSize"], leaf, root, proof)
            proved = True
        except verifier.NotProved:
            proved = False
        assert proved is not case["wantErr"], file


def test_published_consistency_vectors_for_writer_and_verifier():
    for file in sorted(vectors("merkle/testdata/consistency").rglob("*.json")):
        case = json.loads(file.read_text())
        sizes, roots = (case["size1"], case["size2"]), (decoded(case["root1"]), decoded(case["root2"]))
        try:
            verifier.verify_consistency(*sizes, *roots, hashes_in(case))
            proved = True
        except verifier.NotProved:
            proved = False
        trusted = tree.is_consistent(
            first=sizes[0],
            second=sizes[1],
            first_root=roots[0],
            second_root=roots[1],
            proof=hashes_in(case),
        )
        assert proved is trusted is not case["wantErr"], file


def test_a_consistency_proof_from_size_zero_is_refused():
    root = hashlib.sha256(b"anything").digest()
    assert not tree.is_consistent(first=0, first_root=tree.EMPTY_ROOT, second=1, second_root=root, proof=[])
    with pytest.raises(verifier.NotProved):
        verifier.verify_consistency(0, 1, tree.EMPTY_ROOT, root, [])


def test_published_tiles_of_a_300_leaf_tree_give_its_signed_root():
    (folder,) = vectors("sunlight/cmd/skylight/testdata/witness/mirror").glob("*/")
    level_0 = (folder / "tile/0/000").read_bytes() + (folder / "tile/0/001.p/44").read_bytes()
    grown = tree.grow({}, 0, [level_0[at : at + 32] for at in range(0, len(level_0), 32)])
    _, size, root, *_ = (folder / "checkpoint").read_text().split("\n")
    assert tree.root(grown, int(size)) == base64.b64decode(root)


def test_published_log_of_15_leaves_grows_from_each_checkpoint_to_the_next():
    folder = vectors("tessera-log/testdata/log")
    tile = (folder / "tile/0/000.p/15").read_bytes()
    roots = [
        base64.b64decode((folder / f"checkpoint.{size}").read_text().split("\n")[2]) for size in range(16)
    ]
    tiles = {(0, 0): tile}
    assert [tree.root(tiles, size) for size in range(16)] == roots
    for first, second in pairwise(range(1, 16)):
        proof = prove(tiles, tree.consistency_ranges(first, second))
        verifier.verify_consistency(first, second, roots[first], roots[second], proof)


def decoded(text):
    return base64.b64decode(text or "")


def hashes_in(case):
    return [decoded(each) for each in case["proof"] or []]


BIG = build(leaves_of(70_000))
