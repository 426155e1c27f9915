"""One-time passwords from an authenticator app (RFC 6238): six digits, a new one every 30 seconds."""

import hmac
from datetime import datetime

import pyotp

PERIOD_S = 30
DRIFT_STEPS = 1
ISSUER = "Quanhui 券汇"
DECOY_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105 - compared against when there is no account


def new_totp_secret() -> str:
    """160 random bits in base 32 (RFC 4226 section 4, R6)."""
    return pyotp.random_base32(32)


def totp_uri(login: str, secret: str) -> str:
    """What an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret, interval=PERIOD_S).provisioning_uri(name=login, issuer_name=ISSUER)


def totp_step(secret: str, code: str, *, after: int, now: datetime) -> int | None:
    """The time step whose one-time password this is (RFC 6238), one step of drift allowed either way.

    Only steps later than `after` count: a password that was spent, or an older one, is worth nothing.
    """
    present = int(now.timestamp()) // PERIOD_S
    generator = pyotp.TOTP(secret, interval=PERIOD_S)
    found = None
    for step in range(present - DRIFT_STEPS, present + DRIFT_STEPS + 1):
        matches = hmac.compare_digest(generator.generate_otp(step).encode(), code.encode())
        if matches and step > after:
            found = step
    return found
