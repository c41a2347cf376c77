"""Core NATS with nats-py, unchanged, against the server in $SUT on two cores: pub/sub, request and reply, headers, queue
groups, drain, errors, reconnect."""

import asyncio
import logging
import os
import random
import socket
import subprocess
import sys
import tempfile
import time

import nats
from nats.errors import NoRespondersError

PATIENCE = 15.0  # seconds; bounds every wait. A pass never comes near it.
PORTS = (29000, 30999)  # below the ephemeral range, and other than those of the other parts


class Server:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="core-py-", dir=os.environ["CONFORMANCE_DATA"])
        self.port = random.randint(*PORTS)
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process = None

    async def start(self):
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self.process = subprocess.Popen(
                [os.environ["SUT"], "-p", str(self.port), "--store", "memory", "-cores", "2"],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                expect(self.process.poll() is None, "the server runs")
                expect(time.monotonic() < deadline, "the server is ready in time")
                await asyncio.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.process.wait()


def expect(holds, text):
    if not holds:
        raise AssertionError(text)


async def eventually(what, holds):
    """Polls a condition until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        expect(time.monotonic() < deadline, f"not within {PATIENCE} s: {what}")
        await asyncio.sleep(0.003)


async def settled(client):
    """Returns when the server has done all that the client asked. The client's PING overtakes what it has buffered, so
    that the first round trip only tells that the buffer went out."""
    await client.flush()
    await client.flush()


async def connections(server, count):
    """Connections that are spread over the cores."""
    return [await nats.connect(server.url, reconnect_time_wait=0.05, max_reconnect_attempts=-1) for _ in range(count)]


async def order(server):
    """Messages of one publisher reach each subscriber in order, on whatever core it is."""
    publisher, *others = await connections(server, 5)
    heard = []
    for client in others:
        got = []

        async def take(message, got=got):
            got.append(int(message.data))

        await client.subscribe("numbers.*", cb=take)
        await settled(client)
        heard.append(got)
    for number in range(2000):
        await publisher.publish("numbers.all", str(number).encode())
    await settled(publisher)
    await eventually("all messages came", lambda: all(len(got) == 2000 for got in heard))
    expect(all(got == list(range(2000)) for got in heard), "in order")
    for client in (publisher, *others):
        await client.close()


async def request(server):
    """A request is answered with headers, and one that nobody receives fails at once."""
    asker, service = await connections(server, 2)

    async def answer(message):
        await service.publish(
            message.reply, message.data.upper(), headers={"X-Was": message.headers["X-Is"]}
        )

    await service.subscribe("upper", cb=answer)
    await settled(service)
    for number in range(100):
        reply = await asker.request("upper", f"a{number}".encode(), timeout=5, headers={"X-Is": str(number)})
        expect(reply.data == f"A{number}".encode(), "the answer")
        expect(reply.headers["X-Was"] == str(number), "its headers")
    begun = time.monotonic()
    try:
        await asker.request("nobody", b"", timeout=10)
        raise AssertionError("nobody has answered")
    except NoRespondersError:
        expect(time.monotonic() - begun < 5, "at once")
    await asker.close()
    await service.close()


async def queue(server):
    """A queue group shares messages over all cores, each to one member."""
    publisher, *members = await connections(server, 5)
    counts = [0] * len(members)
    for index, member in enumerate(members):

        async def work(_, index=index):
            counts[index] += 1

        await member.subscribe("work", queue="workers", cb=work)
        await settled(member)
    for _ in range(1000):
        await publisher.publish("work", b"x")
    await settled(publisher)
    await eventually("all work was given out", lambda: sum(counts) >= 1000)
    expect(sum(counts) == 1000, f"each once: {counts}")
    expect(all(150 <= count <= 350 for count in counts), f"fairly: {counts}")
    for client in (publisher, *members):
        await client.close()


async def drain(server):
    """A client that drains gets all that came before, and nothing is lost in its group."""
    publisher, first, second = await connections(server, 3)
    counts = {first: 0, second: 0}
    for member in counts:

        async def work(_, member=member):
            counts[member] += 1

        await member.subscribe("jobs", queue="workers", cb=work)
        await settled(member)
    for number in range(1000):
        await publisher.publish("jobs", b"x")
        if number == 500:
            await settled(publisher)
            await first.drain()
    await settled(publisher)
    await eventually("all jobs were done", lambda: sum(counts.values()) >= 1000)
    expect(sum(counts.values()) == 1000, f"each once: {counts.values()}")
    expect(first.is_closed, "the drained client is closed")
    limited = await second.subscribe("few")
    await limited.unsubscribe(limit=3)
    for _ in range(5):
        await second.publish("few", b"x")
    await settled(second)
    expect(limited.pending_msgs == 3, "an unsubscribe with a maximum")
    await publisher.close()
    await second.close()


async def large(server):
    """A message of max_payload arrives, one byte more is refused by the client with the server's number."""
    sender, receiver = await connections(server, 2)
    subscription = await receiver.subscribe("large")
    await settled(receiver)
    payload = random.Random(1).randbytes(sender.max_payload)
    for _ in range(5):
        await sender.publish("large", payload)
    await settled(sender)
    for _ in range(5):
        message = await subscription.next_msg(timeout=PATIENCE)
        expect(message.data == payload, "unchanged")
    try:
        await sender.publish("large", payload + b"x")
        raise AssertionError("a larger message was taken")
    except nats.errors.MaxPayloadError:
        pass
    await sender.close()
    await receiver.close()


async def reconnect(server):
    """Subscriptions are there again after the server was killed."""
    publisher, subscriber = await connections(server, 2)
    got = []

    async def take(message):
        got.append(message.data)

    await subscriber.subscribe("again", cb=take)
    await settled(subscriber)
    server.kill()
    await server.start()
    # A client that has not yet noticed is connected, too.
    await eventually("both are connected again", lambda: publisher.stats["reconnects"] and subscriber.stats["reconnects"])
    await eventually("both are connected", lambda: publisher.is_connected and subscriber.is_connected)
    deadline = time.monotonic() + PATIENCE
    while not got:
        expect(time.monotonic() < deadline, "a message came through")
        await publisher.publish("again", b"x")
        await settled(publisher)
        await asyncio.sleep(0.05)
    await publisher.close()
    await subscriber.close()


async def main():
    logging.disable(logging.CRITICAL)
    server = Server()
    passed = failed = 0
    try:
        await server.start()
        for check in (order, request, queue, drain, large, reconnect):
            name = " ".join(check.__doc__.split())
            try:
                await asyncio.wait_for(check(server), 60)
                passed += 1
                print(f"ok core-py/{check.__name__}: {name}", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAIL core-py/{check.__name__}: {name} ({error!r})", flush=True)
    finally:
        server.kill()
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


sys.exit(asyncio.run(main()))
