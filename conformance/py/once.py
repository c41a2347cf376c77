"""Pattern: process each message exactly once, by its sequence, in a file of the client's own."""

import asyncio
import os
import random

from harness import ACK_WAIT, Sink, eventually, expect

CHANNEL = "once"
KILLS = 4
PUBLISHERS = 8


class Processor:
    """Appends each message that it processes to a file and so knows the last one, over any restart
    of its own. It takes messages in sequence only: what it has had it acks again, what comes too
    early it leaves to the ack wait."""

    def __init__(self, server):
        self.server = server
        self.file = os.path.join(server.directory, "processed")
        self.client = None
        self.last = 0

    def lines(self):
        if not os.path.exists(self.file):
            return []
        with open(self.file) as file:
            return file.read().splitlines()

    async def restart(self):
        """Drops the connection as a killed process would and begins anew from the file."""
        if self.client is not None:
            await self.client.cut()
        lines = self.lines()
        self.last = int(lines[-1].split()[0]) if lines else 0
        self.client = await self.subscribe_soon()

    async def subscribe_soon(self):
        """Retries, for a server that is being killed and started meanwhile."""
        for _ in range(20):
            c = None
            try:
                c = await self.server.connect("processor", timeout=1)

                async def handler(m, c=c):
                    await self.process(c, m)

                await c.subscribe(
                    CHANNEL,
                    handler,
                    durable_name="mark",
                    deliver_all_available=True,
                    manual_acks=True,
                    ack_wait=ACK_WAIT,
                    max_inflight=64,
                )
                return c
            except Exception:  # refused, timed out, cut off: all to be tried again
                if c is not None:
                    await c.cut()
                await asyncio.sleep(0.05)
        raise AssertionError("the processor cannot subscribe")

    async def process(self, c, m):
        if c.nats.is_closed or m.seq > self.last + 1:
            return
        if m.seq == self.last + 1:
            with open(self.file, "a") as file:
                file.write(f"{m.seq} {m.data.decode()}\n")
            self.last = m.seq
        await c.stan.ack(m)


class Ledger:
    """Maps the sequences of a subscription to its messages; a sequence with two of them is a conflict."""

    def __init__(self):
        self.entries = {}
        self.conflicts = []

    async def add(self, m):
        entry = (m.data.decode(), m.timestamp)
        if self.entries.setdefault(m.seq, entry) != entry:
            self.conflicts.append((m.seq, self.entries[m.seq], entry))

    @property
    def last(self):
        return max(self.entries, default=0)

    def expect_same(self, other):
        conflicts = self.conflicts + other.conflicts
        expect(not conflicts, f"a sequence changed: {conflicts[:1]}")
        differences = sorted(self.entries.items() ^ other.entries.items())
        expect(not differences, f"differences: {differences[:2]}")


async def read_all(server):
    """Reads the channel from its first to its last message and checks that there is no hole."""
    c, newest, ledger = await server.connect("auditor"), Sink(), Ledger()
    await c.subscribe(CHANNEL, newest.add, start_at="last_received")
    await newest.wait(1)
    last = newest.messages[0].seq
    await c.subscribe(CHANNEL, ledger.add, deliver_all_available=True)
    await eventually(f"read up to {last}", lambda: last in ledger.entries)
    expect(len(ledger.entries) == last, f"{len(ledger.entries)} messages under sequences up to {last}")
    await c.leave()
    return ledger


class Publishers:
    """Publish until told to stop; what is not acked in time is published again."""

    def __init__(self):
        self.acked = []
        self.stopping = False

    async def start(self, server):
        self.client = await server.connect("publisher")
        self.tasks = [asyncio.create_task(self.publish(number)) for number in range(PUBLISHERS)]

    async def publish(self, number):
        n = 0
        while not self.stopping:
            await self.client.publish_until_acked(CHANNEL, f"{number}-{n}")
            self.acked.append(f"{number}-{n}")
            n += 1

    async def wait_more(self, more):
        target = len(self.acked) + more
        await eventually(f"{more} more messages are acked", lambda: len(self.acked) >= target)

    async def stop(self):
        self.stopping = True
        await asyncio.gather(*self.tasks)
        await self.client.leave()


async def checks(t, server):
    dice = random.Random(2)
    processor, publishers, seen, history = Processor(server), Publishers(), Ledger(), Ledger()

    async def turmoil():
        nonlocal history
        observer = await server.connect("observer")
        await observer.subscribe(CHANNEL, seen.add, deliver_all_available=True, ack_wait=ACK_WAIT)
        await processor.restart()
        await publishers.start(server)
        for _ in range(KILLS):
            await publishers.wait_more(50)
            await asyncio.sleep(dice.random() / 5)
            server.kill()
            if dice.random() < 0.5:
                await processor.client.cut()
            await server.start()
            await publishers.wait_more(50)
            await asyncio.sleep(dice.random() / 5)
            await processor.restart()
        await publishers.stop()
        history = await read_all(server)
        await eventually("the processor is through", lambda: processor.last == history.last)
        await eventually("the observer has it all", lambda: len(seen.entries) == len(history.entries))
        await observer.cut()
        await processor.client.cut()

    async def processed_once():
        expected = [f"{seq} {text}" for seq, (text, _) in sorted(history.entries.items())]
        lines = processor.lines()
        different = [pair for pair in zip(lines, expected) if pair[0] != pair[1]]
        expect(not different, f"processed, published: {different[:1]}")
        expect(lines and len(lines) == len(expected), f"{len(lines)} processed of {len(expected)}")

    async def acked_is_there():
        lost = set(publishers.acked) - {text for text, _ in history.entries.values()}
        expect(publishers.acked and not lost, f"{len(lost)} of {len(publishers.acked)} acked messages are lost")

    async def sequences_stay():
        seen.expect_same(history)
        await server.crash()
        history.expect_same(await read_all(server))
        c = await server.connect("next")
        await c.publish_until_acked(CHANNEL, "the next")
        await c.leave()
        after = await read_all(server)
        expect(after.last == history.last + 1, f"the next sequence after {history.last} is {after.last}")
        expect(after.entries[after.last][0] == "the next", f"the next is {after.entries[after.last]}")

    await t.check_beyond_reference(f"{KILLS} kills of the server, as many restarts of the client, publishing goes on", turmoil())
    await t.check_beyond_reference("each message was processed once, in sequence", processed_once())
    await t.check_beyond_reference("all that was acked to the publishers is there", acked_is_there())
    await t.check_beyond_reference("sequences keep their messages, after one more kill too", sequences_stay())
