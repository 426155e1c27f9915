"""Outside parties 外部机构, played: an issuer, a payment institution, an SMS gateway, payment channels.

Each is a program of its own, started by `python -m quanhui.sandboxes issuer|institution|sms`, with its own
SQLite file, so that after any crash one can compare what the outside party really did with what our
books say. The channels (WeChat, Alipay) speak their own protocols, all in one process:
`python -m quanhui.sandboxes.channels`. They share nothing with the platform but the signing of messages.
What goes wrong with real parties goes wrong here on demand: see `faults`.

Their control API (`/control/…`) plays the rest of the world, a buyer paying, a payee confirming, a
till spending a voucher. It is unsigned and open to whoever reaches the port: this is play money.
"""

from quanhui.sandboxes.run import Options, SandboxKind, run_sandbox

__all__ = ["Options", "SandboxKind", "run_sandbox"]
