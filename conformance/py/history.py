"""Pattern: read the history from a position; a durable knows its position better.

The client has no start by time delta, and it rounds a start time to whole seconds ago."""

import time

from harness import Sink, eventually

CHANNEL = "past"
OLD = 10


class Past:
    """A channel whose messages 1..OLD are a second or more older than `between`, and OLD+1..last
    younger by more than the second that the client may add."""

    def __init__(self, server):
        self.server = server
        self.between = 0.0
        self.last = 0

    async def publish(self):
        c = await self.server.connect("publisher")
        await c.publish(CHANNEL, 1, OLD)
        published = time.time()
        self.between = published + 0.5
        await eventually("two seconds pass", lambda: time.time() > published + 2)
        self.last = 2 * OLD
        await c.publish(CHANNEL, OLD + 1, self.last)
        await c.leave()

    async def read_from(self, position, first):
        c, got = await self.server.connect("reader"), Sink()
        await c.subscribe(CHANNEL, got.add, **position())
        await got.expect_run(first(), self.last)
        await c.leave()

    async def crash_and_read_from(self, position, first):
        await self.server.crash()
        await self.read_from(position, first)

    async def durable_wins(self, position, first, durable, crash):
        """Gives a durable its start position twice; only the first counts."""
        before, after = Sink(), Sink()
        c = await self.server.connect(durable)
        await c.collect(CHANNEL, before, durable_name=durable, **position())
        await before.expect_run(first(), self.last)
        await c.leave()
        if crash:
            await self.server.crash()
        c = await self.server.connect(durable)
        await c.publish(CHANNEL, self.last + 1, self.last + 2)
        self.last += 2
        await c.collect(CHANNEL, after, durable_name=durable, **position())
        await after.expect_run(self.last - 1, self.last)
        await c.leave()


async def new_only(server, channel, **position):
    c, got = await server.connect(channel), Sink()
    await c.publish(channel, 1, 5)
    await c.subscribe(channel, got.add, **position)
    await c.publish(channel, 6, 10)
    await got.expect_run(6, 10)
    await c.leave()


async def checks(t, server):
    past = Past(server)
    await t.check("20 messages, 10 of them two seconds older", past.publish())
    # Name, options, and the first message that they promise.
    positions = [
        ("DeliverAllAvailable", lambda: {"deliver_all_available": True}, lambda: 1),
        ("StartWithLastReceived", lambda: {"start_at": "last_received"}, lambda: past.last),
        ("StartAtSequence", lambda: {"start_at": "sequence", "sequence": 7}, lambda: 7),
        ("StartAtTime", lambda: {"start_at": "time", "time": past.between}, lambda: OLD + 1),
    ]
    for name, position, first in positions:
        await t.check(name, past.read_from(position, first))
    await t.check("without a position only new messages come", new_only(server, "new-only"))
    await t.check(
        "a position past the end waits for new messages",
        new_only(server, "past-end", start_at="sequence", sequence=100),
    )
    for name, position, first in positions:
        await t.check(
            f"{name} with a durable: the durable wins on resume",
            past.durable_wins(position, first, "mark-" + name, crash=False),
        )
    for name, position, first in positions:
        await t.check(f"{name} after kill -9", past.crash_and_read_from(position, first))
    for name, position, first in positions:
        await t.check(
            f"{name} with a durable: only what is new after kill -9",
            past.durable_wins(position, first, "mark-kill-" + name, crash=True),
        )
