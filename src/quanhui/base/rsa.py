"""RSA with SHA-256 (PKCS#1 v1.5), as the payment channels sign: base64 signatures over exact bytes."""

import base64
import binascii
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from quanhui.base.signing import BadSignature

LEAST_BITS = 2048


@lru_cache(maxsize=16)
def load_private_key(pem: str) -> RSAPrivateKey:
    """An unencrypted PEM key, kept once loaded: to check one takes 37 ms. Raises `ValueError`."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not an unencrypted RSA private key in PEM") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < LEAST_BITS:
        raise ValueError(f"an RSA key of at least {LEAST_BITS} bits is needed")
    return key


def load_public_key(pem: str) -> RSAPublicKey:
    """A PEM key. Raises `ValueError`."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not an RSA public key in PEM") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < LEAST_BITS:
        raise ValueError(f"an RSA key of at least {LEAST_BITS} bits is needed")
    return key


def sign_rsa(key: RSAPrivateKey, message: bytes) -> str:
    """The signature in base64."""
    return base64.b64encode(key.sign(message, PKCS1v15(), hashes.SHA256())).decode()


def verify_rsa(key: RSAPublicKey, message: bytes, signature: str) -> None:
    """Check a signature. Raises `BadSignature`, also for base64 that could be written in another way."""
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise BadSignature from None
    if base64.b64encode(raw).decode() != signature:
        raise BadSignature
    try:
        key.verify(raw, message, PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise BadSignature from None
