"""The Merkle tree of RFC 6962 over SHA-256, kept as tiles: pure functions on hashes.

A tile holds up to 256 neighbouring hashes of one level: level 0 the leaf hashes, level 1 the roots of full
level-0 tiles, and so on (C2SP tlog-tiles, height 8). Hashes between two levels are computed when asked for.
A node `(height, index)` is the complete subtree over leaves `[index·2^height, (index+1)·2^height)`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES
EMPTY_ROOT = hashlib.sha256().digest()

Node: TypeAlias = tuple[int, int]
"""Height and index of a complete subtree."""
Range: TypeAlias = tuple[int, int]
"""First leaf and the leaf after the last of a subtree, complete or not."""
TileKey: TypeAlias = tuple[int, int]
"""Level and index of a tile."""
Tiles: TypeAlias = dict[TileKey, bytes]


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256 of 0x00 and the leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and the two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def grow(edge: Tiles, size: int, hashes: Sequence[bytes]) -> Tiles:
    """Append leaf hashes to a tree of `size` leaves; returns the tiles that are new or longer.

    `edge` holds the tiles named by `edge_keys(size)`.
    """
    changed: Tiles = {}
    level, count = 0, size
    while hashes:
        index, filled = divmod(count, TILE_WIDTH)
        data = (edge[level, index] if filled else b"") + b"".join(hashes)
        parents = []
        for start in range(0, len(data), TILE_BYTES):
            tile = changed[level, index] = data[start : start + TILE_BYTES]
            if len(tile) == TILE_BYTES:
                parents.append(_perfect_root(tile))
                index += 1
        level, count, hashes = level + 1, count >> TILE_HEIGHT, parents
    return changed


def edge_keys(size: int) -> list[TileKey]:
    """The tiles at the right edge that are not full: all that is needed to grow a tree or find its root."""
    keys = []
    level = 0
    while size:
        if size % TILE_WIDTH:
            keys.append((level, size // TILE_WIDTH))
        level, size = level + 1, size // TILE_WIDTH
    return keys


def root(tiles: Tiles, size: int) -> bytes:
    """The root of the first `size` leaves; `tiles` must hold the right edge at that size."""
    return range_hash(tiles, (0, size)) if size else EMPTY_ROOT


def inclusion_ranges(leaf: int, size: int) -> list[Range]:
    """The subtrees whose hashes prove that a leaf is in a tree of `size` leaves (RFC 6962, 2.1.1)."""
    assert 0 <= leaf < size
    begin, end = 0, size
    ranges = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if leaf < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    return ranges[::-1]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """The subtrees whose hashes prove that a tree of `second` leaves extends one of `first` (2.1.2)."""
    assert 0 < first <= second
    begin, end = 0, second
    ranges = []
    while end != first:
        middle = begin + _split(end - begin)
        if first <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    if begin:
        ranges.append((begin, end))
    return ranges[::-1]


def tile_keys(ranges: Iterable[Range]) -> set[TileKey]:
    """The tiles from which the hashes of these ranges can be computed."""
    return {_place(node)[0] for each in ranges for node in _complete_subtrees(each)}


def range_hash(tiles: Tiles, leaves: Range) -> bytes:
    """The Merkle tree hash of a range of leaves that is a subtree of some tree."""
    *lefts, result = [_subtree_hash(tiles, node) for node in _complete_subtrees(leaves)]
    for left in reversed(lefts):
        result = node_hash(left, result)
    return result


def is_consistent(
    *, first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the second tree begins with the first. From size 0 nothing is shown."""
    if not 0 < first <= second:
        return False
    rest = iter(proof)
    try:
        rebuilt = _rebuild(first, second, known=first_root, proof=rest)
    except StopIteration:
        return False
    return rebuilt == (first_root, second_root) and next(rest, None) is None


def _rebuild(first: int, second: int, *, known: bytes | None, proof: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Both roots as the proof tells them; `known` is the old root while only left turns were taken."""
    if first == second:
        found = next(proof) if known is None else known
        return found, found
    middle = _split(second)
    if first <= middle:
        old, new = _rebuild(first, middle, known=known, proof=proof)
        return old, node_hash(new, next(proof))
    old, new = _rebuild(first - middle, second - middle, known=None, proof=proof)
    left = next(proof)
    return node_hash(left, old), node_hash(left, new)


def _split(count: int) -> int:
    """The largest power of two smaller than `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _complete_subtrees(leaves: Range) -> list[Node]:
    begin, end = leaves
    nodes = []
    while begin < end:
        height = (end - begin).bit_length() - 1
        nodes.append((height, begin >> height))
        begin += 1 << height
    return nodes


def _place(node: Node) -> tuple[TileKey, slice]:
    """Which tile holds the hashes under a node, and where."""
    height, index = node
    level, rest = divmod(height, TILE_HEIGHT)
    tile, offset = divmod(index << rest, TILE_WIDTH)
    return (level, tile), slice(offset * HASH_BYTES, (offset + (1 << rest)) * HASH_BYTES)


def _subtree_hash(tiles: Tiles, node: Node) -> bytes:
    key, where = _place(node)
    return _perfect_root(tiles[key][where])


def _perfect_root(data: bytes) -> bytes:
    """The root over a power of two of hashes, laid end to end."""
    sha256 = hashlib.sha256
    while len(data) > HASH_BYTES:
        pairs = range(0, len(data), 2 * HASH_BYTES)
        data = b"".join([sha256(b"\x01" + data[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
    return data
