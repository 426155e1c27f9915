import pytest
from hypothesis import given, strategies as st

from quanhui.base.keyring import NONCE_BYTES, CannotOpen, Keyring, Sealed

OLD, NEW, PRINT = bytes(32), bytes(range(32)), b"p" * 32
RING = Keyring({1: OLD, 2: NEW}, PRINT)


@given(plain=st.text(), context=st.text())
def test_what_is_sealed_opens_in_its_context_and_in_no_other(plain, context):
    sealed = RING.seal(plain, context=context)
    assert RING.open(sealed, context=context) == plain
    with pytest.raises(CannotOpen):
        RING.open(sealed, context=context + "x")


def test_the_newest_key_seals_and_older_ones_still_open():
    before = Keyring({1: OLD}, PRINT).seal("code", context="vch_1")
    assert RING.open(before, context="vch_1") == "code"
    after = RING.seal("code", context="vch_1")
    assert after.key_version == 2
    with pytest.raises(CannotOpen):
        Keyring({1: OLD}, PRINT).open(after, context="vch_1")


def test_one_text_sealed_twice_looks_different():
    assert RING.seal("code", context="a").box != RING.seal("code", context="a").box


@pytest.mark.parametrize("length", [0, 1, NONCE_BYTES, NONCE_BYTES + 5])
def test_a_value_cut_short_does_not_open(length):
    sealed = RING.seal("code", context="a")
    with pytest.raises(CannotOpen):
        RING.open(Sealed(sealed.key_version, sealed.box[:length]), context="a")


def test_a_changed_bit_anywhere_is_noticed():
    sealed = RING.seal("code", context="a")
    for place in range(len(sealed.box)):
        changed = bytearray(sealed.box)
        changed[place] ^= 1
        with pytest.raises(CannotOpen):
            RING.open(Sealed(sealed.key_version, bytes(changed)), context="a")


def test_fingerprints_are_keyed_stable_and_their_parts_cannot_run_together():
    assert RING.fingerprint("ab", "c") == RING.fingerprint("ab", "c")
    assert RING.fingerprint("ab", "c") != RING.fingerprint("a", "bc")
    assert RING.fingerprint("abc") != RING.fingerprint("abc", "")
    assert RING.fingerprint("a") != Keyring({1: OLD}, NEW).fingerprint("a")
    assert RING.fingerprint("a") == Keyring({7: NEW}, PRINT).fingerprint("a")
    assert len(RING.fingerprint()) == 32


@pytest.mark.parametrize("keys", [{}, {1: b"short"}])
def test_a_ring_needs_whole_keys(keys):
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring(keys, PRINT)
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring({1: OLD}, b"")


def test_a_ring_never_prints_a_key():
    assert repr(RING) == "Keyring(versions=[1, 2])"
