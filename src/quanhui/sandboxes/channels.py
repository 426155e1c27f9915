"""The payment channels, played by one process, each at an address of its own.

`python -m quanhui.sandboxes.channels wechat=http://127.0.0.1:8714 … --state …`. What they sign with, and
whom they let in, comes as JSON in `QUANHUI_CHANNEL_KEYS`: by channel, a `ChannelKeys`.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop
from aiohttp import web

from quanhui.sandboxes.alipay import Alipay
from quanhui.sandboxes.channel import Channel, ChannelKeys, ChannelOptions, build_channel
from quanhui.sandboxes.faults import FaultTable
from quanhui.sandboxes.wechat import Wechat

CHANNELS: Mapping[str, Callable[[ChannelOptions, FaultTable], Channel]] = {"wechat": Wechat, "alipay": Alipay}
KEYS = "QUANHUI_CHANNEL_KEYS"


async def serve_channels(channels: Mapping[str, ChannelOptions]) -> None:
    """Serve them all until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        for name, options in channels.items():
            faults = FaultTable(options.seed)
            app = build_channel(CHANNELS[name](options, faults), faults, stopping)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            address = urlsplit(options.url)
            await web.TCPSite(runner, address.hostname, address.port).start()
        await stopping.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="quanhui.sandboxes.channels", description="Play payment channels.")
    parser.add_argument("channel", nargs="+", help="name=address, of " + ", ".join(CHANNELS))
    parser.add_argument("--state", type=Path, required=True, help="folder for the channels' own books")
    parser.add_argument("--seed", type=int, default=0, help="of the dice that faults are drawn with")
    parser.add_argument("--settle", type=float, default=0.05, help="seconds a transfer takes")
    parser.add_argument("--callback-url", help="where callbacks go unless an order says otherwise")
    arguments = parser.parse_args()
    try:
        keys = msgspec.json.decode(os.environ.get(KEYS, ""), type=dict[str, ChannelKeys])
        channels = {
            name: ChannelOptions(
                state_dir=arguments.state,
                url=url,
                keys=keys[name],
                settle_s=arguments.settle,
                seed=arguments.seed,
                callback_url=arguments.callback_url,
            )
            for name, _, url in (text.partition("=") for text in arguments.channel)
        }
    except (msgspec.DecodeError, KeyError):
        parser.error(f"{KEYS} must hold the keys of each channel named")
    uvloop.run(serve_channels(channels))


if __name__ == "__main__":
    main()
