"""Pattern: pick up where I left off, by a durable name."""

import asyncio
import random

from harness import ACK_WAIT, Sink, expect, expect_error, payload


async def checks(t, server):
    async def nothing():
        pass

    await t.check("messages published while away arrive on return", away(server, "away", nothing))
    await t.check(
        "messages published while away arrive on return after kill -9", away(server, "away-kill", server.crash)
    )
    await t.check(
        "close at the first error, resubscribe: the failed one first, then the rest", close_at_error(server)
    )
    await t.check(
        "MaxInflight(1) with manual acks is a total order under a failing handler", total_order(server, 1)
    )
    await t.check("the same durable name on two channels is two positions", two_positions(server))
    await t.check("close remembers, unsubscribe forgets", close_and_unsubscribe(server))
    await t.check("an active durable cannot be taken twice", taken_twice(server))


async def away(server, name, between):
    """Lets a durable receive 1..10, leave, miss 11..20, and come back for them."""
    before, after = Sink(), Sink()
    c = await server.connect(name)
    await c.collect(name, before, durable_name="mark")
    await c.publish(name, 1, 10)
    await before.expect_run(1, 10)
    await c.leave()
    other = await server.connect(name + "-publisher")
    await other.publish(name, 11, 20)
    await between()
    c = await server.connect(name)
    await c.collect(name, after, durable_name="mark")
    await after.expect_run(11, 20)
    await other.leave()
    await c.leave()


async def close_at_error(server):
    failing = 4
    c, before, after = await server.connect("error"), Sink(), Sink()
    closing = asyncio.Event()

    async def handler(m):
        if closing.is_set():
            return
        await before.add(m)
        if m.seq == failing:
            closing.set()
        else:
            await c.stan.ack(m)

    sub = await c.subscribe("error", handler, durable_name="mark", manual_acks=True)
    await c.publish("error", 1, 100)
    # The close is asked for here, since it cancels the task that the handler runs in.
    await closing.wait()
    await sub.close()
    await before.expect_run(1, failing)
    await c.collect("error", after, durable_name="mark")
    await after.expect_run(failing, 100)
    await c.leave()


async def total_order(server, seed):
    """Processes 1..last one at a time. Now and then the handler fails: it leaves the message to the
    ack wait, or has the durable subscription closed and taken up again."""
    last, leaves = 150, 3
    dice, processed, stopped = random.Random(seed), [], asyncio.Event()
    c = await server.connect("total")

    async def handler(m):
        nonlocal leaves
        if stopped.is_set():
            return
        roll = dice.randrange(100)
        if roll < 5 and leaves > 0:
            leaves -= 1
            return
        if roll < 15:
            stopped.set()
            return
        processed.append(m.data.decode())
        await c.stan.ack(m)
        if len(processed) == last:
            stopped.set()

    await c.publish("total", 1, last)
    while len(processed) < last:
        stopped.clear()
        sub = await c.subscribe(
            "total",
            handler,
            durable_name="mark",
            deliver_all_available=True,
            manual_acks=True,
            max_inflight=1,
            ack_wait=ACK_WAIT,
        )
        await stopped.wait()
        await sub.close()
    await c.leave()
    expected = [payload(n) for n in range(1, last + 1)]
    expect(processed == expected, f"seed {seed}: processed {processed}")


async def two_positions(server):
    c = await server.connect("two")
    left, right, left_again, right_again = Sink(), Sink(), Sink(), Sink()
    sub_left = await c.collect("two.left", left, durable_name="mark")
    sub_right = await c.collect("two.right", right, durable_name="mark")
    await c.publish("two.left", 1, 5)
    await left.expect_run(1, 5)
    await sub_left.close()
    await sub_right.close()
    await c.publish("two.left", 6, 6)
    await c.publish("two.right", 1, 3)
    await c.collect("two.left", left_again, durable_name="mark")
    await c.collect("two.right", right_again, durable_name="mark")
    await left_again.expect_run(6, 6)
    await right_again.expect_run(1, 3)
    await c.leave()


async def close_and_unsubscribe(server):
    c = await server.connect("forget")
    await c.publish("forget", 1, 5)
    options = {"durable_name": "mark", "deliver_all_available": True}
    first, closed, forgotten = Sink(), Sink(), Sink()
    sub = await c.collect("forget", first, **options)
    await first.expect_run(1, 5)
    await sub.close()
    await c.publish("forget", 6, 7)
    sub = await c.collect("forget", closed, **options)
    await closed.expect_run(6, 7)
    await sub.unsubscribe()
    await c.collect("forget", forgotten, **options)
    await forgotten.expect_run(1, 7)
    await c.leave()


async def taken_twice(server):
    c = await server.connect("twice")
    await c.collect("twice", Sink(), durable_name="mark")
    # The client library does not clean up after a refused subscribe: the refusal gets one of its own.
    refused = c.collect("twice", Sink(), durable_name="mark")
    await expect_error(refused, "stan: duplicate durable registration")
    await c.cut()
