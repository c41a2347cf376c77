"""The Python part of the conformance suite: the five subscriber patterns with
asyncio-nats-streaming, unchanged, against the server in $SUT."""

import asyncio
import importlib
import logging
import sys

from harness import Suite

# Dead clients are dropped within a second or so; live ones have time to answer on a busy machine.
QUICK_HEARTBEATS = ["-hbi", "300ms", "-hbt", "2s", "-hbf", "2"]


async def main():
    logging.disable(logging.CRITICAL)
    only = sys.argv[1:]
    suite = Suite()
    for pattern, flags in [
        ("receive", []),
        ("resume", []),
        ("once", []),
        ("history", []),
        ("share", QUICK_HEARTBEATS),
    ]:
        if not only or pattern in only:
            await suite.run(pattern, flags, importlib.import_module(pattern).checks)
    print(f"{suite.passed} passed, {suite.failed} failed, {suite.skipped} skipped", flush=True)
    return 1 if suite.failed or not suite.passed else 0


sys.exit(asyncio.run(main()))
