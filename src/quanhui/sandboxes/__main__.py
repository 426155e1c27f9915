"""`python -m quanhui.sandboxes issuer|institution|sms --port … --state …`; secrets by environment."""

import argparse
import base64
import os
from pathlib import Path

from quanhui.sandboxes.run import Options, SandboxKind, run_sandbox


def main() -> None:
    """Read the command line and serve.

    The secrets are base64: `QUANHUI_ISSUER_SECRET`, `QUANHUI_INSTITUTION_SECRET`, `QUANHUI_SMS_SECRET`, each
    for its sandbox, and `QUANHUI_CALLBACK_SECRET` for the institution's callbacks.
    """
    parser = argparse.ArgumentParser(prog="quanhui.sandboxes", description="Play an outside party.")
    parser.add_argument("kind", choices=[kind.value for kind in SandboxKind])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder for the party's own books")
    parser.add_argument("--seed", type=int, default=0, help="of the dice that faults are drawn with")
    parser.add_argument("--seed-file", type=Path, help="issuer: vouchers, one JSON object a line")
    parser.add_argument("--settle", type=float, default=0.05, help="institution: seconds a transfer takes")
    parser.add_argument(
        "--callback-url", help="institution: where callbacks go unless an order says otherwise"
    )
    arguments = parser.parse_args()
    kind = SandboxKind(arguments.kind)
    run_sandbox(
        kind,
        host=arguments.host,
        port=arguments.port,
        state_dir=arguments.state,
        secret=_secret(f"QUANHUI_{kind.upper()}_SECRET", parser),
        options=Options(
            seed=arguments.seed,
            seed_file=arguments.seed_file,
            settle_s=arguments.settle,
            callback_secret=(
                _secret("QUANHUI_CALLBACK_SECRET", parser) if kind is SandboxKind.INSTITUTION else b""
            ),
            callback_url=arguments.callback_url,
        ),
    )


def _secret(name: str, parser: argparse.ArgumentParser) -> bytes:
    try:
        secret = base64.b64decode(os.environ.get(name, ""), validate=True)
    except ValueError:
        secret = b""
    if not secret:
        parser.error(f"{name} must hold the shared secret in base64")
    return secret


main()
