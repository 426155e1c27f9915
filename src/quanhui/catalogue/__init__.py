"""What vouchers there are: issuers, brands, categories, products, their codes, and how to ask an issuer."""

from quanhui.catalogue.connectors import (
    BalanceCheck,
    BalanceStatus,
    ExtendOutcome,
    ExtendRequest,
    HoldOutcome,
    HoldRequest,
    IssuerConnector,
    IssuerRefusal,
    RedeemOutcome,
    RedeemRequest,
    RekeyOutcome,
)

__all__ = [
    "BalanceCheck",
    "BalanceStatus",
    "ExtendOutcome",
    "ExtendRequest",
    "HoldOutcome",
    "HoldRequest",
    "IssuerConnector",
    "IssuerRefusal",
    "RedeemOutcome",
    "RedeemRequest",
    "RekeyOutcome",
]
