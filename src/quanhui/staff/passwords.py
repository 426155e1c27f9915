"""Passwords are kept as argon2id (RFC 9106). Checking takes the same time whether or not the login exists."""

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError


class Passwords:
    """Hashes and checks passwords on a thread, so that the event loop goes on.

    `hasher` holds the cost parameters. The decoy is a hash of the same cost that no password fits.
    """

    def __init__(self, hasher: PasswordHasher) -> None:
        self._hasher = hasher
        self._decoy = hasher.hash(secrets.token_hex())

    async def hash(self, password: str) -> str:
        """A salted hash with its parameters in it."""
        return await asyncio.to_thread(self._hasher.hash, password)

    async def fits(self, password_hash: str | None, password: str) -> bool:
        """Whether a password fits a hash; None, for an unknown login, costs as much and is False."""
        return await asyncio.to_thread(self._fits, password_hash, password)

    def _fits(self, password_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(password_hash or self._decoy, password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None
