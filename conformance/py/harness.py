"""The server under test (its port, its directory, start and kill -9), the clients that talk to it,
and the counting of checks."""

import asyncio
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time

import loopless  # noqa: F401  (before the clients)
from nats.aio.client import Client as NatsClient
from stan.aio.client import Client as StanClient
from stan.aio.errors import StanError

CLUSTER = "test-cluster"
PATIENCE = 15.0  # seconds; bounds every wait. A pass never comes near it.
CHECK_TIMEOUT = 90.0
ACK_WAIT = 1  # the shortest that the protocol allows
# Below the ephemeral range, or a client that dials the dead port could be connected to itself.
PORTS = (23000, 28999)


def expect(holds, text):
    if not holds:
        raise AssertionError(text)


async def expect_error(awaitable, text):
    """Expects a refusal with this very text."""
    try:
        await awaitable
    except StanError as error:
        expect(str(error) == text, f"expected {text!r}, got {error}")
    else:
        raise AssertionError(f"expected {text!r}, got no error")


async def eventually(what, holds):
    """Polls a condition until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        expect(time.monotonic() < deadline, f"not within {PATIENCE} s: {what}")
        await asyncio.sleep(0.003)


def free_port():
    while True:
        port = random.randint(*PORTS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    def __init__(self, name, flags):
        self.directory = tempfile.mkdtemp(prefix=f"py-{name}-", dir=os.environ["CONFORMANCE_DATA"])
        self.flags = flags
        self.port = free_port()
        self.process = None

    async def start(self):
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self.process = subprocess.Popen(
                [os.environ["SUT"], "-p", str(self.port), "-cid", CLUSTER, "--store", "file"]
                + ["--dir", os.path.join(self.directory, "data")]
                + ["--max_msgs", "0", "--max_bytes", "0", "-mc", "0", *self.flags],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while not await self.is_ready():
            expect(self.process.poll() is None, f"server exited at start: {self.log_tail()}")
            expect(time.monotonic() < deadline, f"server not ready: {self.log_tail()}")
            await asyncio.sleep(0.01)

    async def is_ready(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                pass
            client = await self.connect(f"ready-{time.monotonic_ns()}", timeout=0.5)
            await client.leave()
            return True
        except Exception:  # whatever a half-started server answers: not yet
            return False

    def log_tail(self):
        with open(os.path.join(self.directory, "server.log"), errors="replace") as log:
            return " / ".join(log.read().strip().split("\n")[-3:])

    def kill(self):
        """Ends the server as `kill -9` does."""
        self.process.kill()
        self.process.wait()

    async def crash(self):
        self.kill()
        await self.start()

    async def connect(self, client_id, timeout=PATIENCE / 4):
        async def ignore(*_):
            pass

        nats, stan = NatsClient(), StanClient()
        connecting = nats.connect(
            servers=[f"nats://127.0.0.1:{self.port}"],
            loop=asyncio.get_running_loop(),
            reconnect_time_wait=0.03,
            max_reconnect_attempts=-1,
            error_cb=ignore,
        )
        await asyncio.wait_for(connecting, timeout)
        try:
            await stan.connect(
                CLUSTER, client_id, nats=nats, connect_timeout=timeout, conn_lost_cb=ignore, ping_max_out=60
            )
        except BaseException:
            await nats.close()
            raise
        return Client(nats, stan)


def payload(n):
    return f"message-{n}"


class Client:
    def __init__(self, nats, stan):
        self.nats = nats
        self.stan = stan

    async def publish(self, channel, first, last):
        """Publishes messages first..last without waiting between them, then waits for every ack."""
        errors, acks = [], 0

        async def acked(answer):
            nonlocal acks
            acks += 1
            if answer.error:
                errors.append(answer.error)

        for n in range(first, last + 1):
            await self.stan.publish(channel, payload(n).encode(), ack_handler=acked)
        await eventually(f"{channel}: all of {first}..{last} are acked", lambda: acks == last - first + 1)
        expect(not errors, f"publish on {channel}: {errors[:1]}")

    async def publish_until_acked(self, channel, text):
        """Repeats one message until the server acks it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                answer = await self.stan.publish(channel, text.encode(), ack_wait=1)
                expect(not answer.error, f"publish: {answer.error}")
                return
            except asyncio.TimeoutError:
                continue
        raise AssertionError(f"no ack for {text}")

    async def subscribe(self, channel, handler, **options):
        return await self.stan.subscribe(channel, cb=handler, **options)

    async def collect(self, channel, sink, **options):
        """Subscribes to gather messages. Each is acked before it is gathered, so that whoever has
        seen it gathered may close or kill what he likes: the ack is on its way."""

        async def handler(m):
            await self.stan.ack(m)
            await sink.add(m)

        return await self.stan.subscribe(channel, cb=handler, manual_acks=True, **options)

    async def leave(self):
        try:
            await self.stan.close()
        finally:
            await self.nats.close()

    async def cut(self):
        """Drops the connection as the death of the client's process does."""
        await self.nats.close()


class Sink:
    """Collects what subscriptions receive."""

    def __init__(self):
        self.messages = []
        self.times = []

    async def add(self, m):
        self.messages.append(m)
        self.times.append(time.monotonic())

    def __str__(self):
        return " ".join(f"{m.seq}{'r' if m.proto.redelivered else ''}" for m in self.messages[:40])

    async def wait(self, count):
        try:
            await eventually("", lambda: len(self.messages) >= count)
        except AssertionError:
            raise AssertionError(f"got {len(self.messages)} of {count} messages: {self}") from None

    async def expect_run(self, first, last):
        """Waits for the messages first..last and nothing else before, between or after them."""
        await self.wait(last - first + 1)
        for n, m in enumerate(self.messages, first):
            expect(m.seq == n and m.data.decode() == payload(n), f"expected {n} next in {self}")
        expect(len(self.messages) == last - first + 1, f"expected the end at {last} in {self}")


async def wait_distinct(first, last, *sinks):
    """Waits until the sinks have seen the messages first..last between them."""

    def missing():
        return set(range(first, last + 1)) - {m.seq for sink in sinks for m in sink.messages}

    try:
        await eventually("", lambda: not missing())
    except AssertionError:
        raise AssertionError(f"of {first}..{last} never came: {sorted(missing())[:10]}") from None


class Suite:
    def __init__(self):
        self.pattern = ""
        self.passed = self.failed = self.skipped = 0

    async def check(self, name, body):
        try:
            await asyncio.wait_for(body, CHECK_TIMEOUT)
            self.passed += 1
            print(f"ok py/{self.pattern}: {name}", flush=True)
        except Exception as error:
            self.failed += 1
            text = str(error).replace("\n", " ") or type(error).__name__
            print(f"FAIL py/{self.pattern}: {name}: {text}", flush=True)

    async def check_beyond_reference(self, name, body):
        """A check that nats-streaming-server itself fails, always or at times; it is skipped there."""
        if os.environ.get("WEIRLOG_REFERENCE") != "1":
            await self.check(name, body)
            return
        body.close()
        self.skipped += 1
        print(f"skip py/{self.pattern}: {name}", flush=True)

    async def run(self, pattern, flags, checks):
        """Gives a pattern a server of its own and removes the data if all went well."""
        self.pattern = pattern
        failed_before = self.failed
        server = Server(pattern, flags)
        try:
            await server.start()
            await checks(self, server)
        except AssertionError as error:
            self.failed += 1
            print(f"FAIL py/{pattern}: the server starts: {error}")
        finally:
            if server.process is not None:
                server.kill()
        if self.failed == failed_before:
            shutil.rmtree(server.directory)
        else:
            print(f"# server log and data of py/{pattern}: {server.directory}")
