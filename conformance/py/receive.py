"""Pattern: receive what is published from now on, in order, until acked."""

from harness import ACK_WAIT, Sink, expect, expect_error, wait_distinct


async def checks(t, server):
    await t.check("2000 messages arrive in order", in_order(server))
    await t.check("an unacked message comes again after the ack wait while later ones flow", comes_again(server))
    await t.check("at most MaxInflight messages are out unacked", max_inflight(server))
    await t.check("a live subscription goes on over kill -9 of the server", goes_on(server))
    await t.check("an unsubscribed subscription receives no more", unsubscribed(server))
    await t.check("a client id is refused while its owner is alive", refused(server))


async def in_order(server):
    c, got = await server.connect("order"), Sink()
    await c.subscribe("order", got.add)
    await c.publish("order", 1, 2000)
    await got.expect_run(1, 2000)
    await c.leave()


async def comes_again(server):
    unacked, last = 10, 50
    c, got = await server.connect("again"), Sink()

    async def handler(m):
        await got.add(m)
        if m.seq != unacked or m.proto.redelivered:
            await c.stan.ack(m)

    await c.subscribe("again", handler, manual_acks=True, ack_wait=ACK_WAIT)
    await c.publish("again", 1, last)
    await got.wait(last + 1)
    first, again = got.messages[unacked - 1], got.messages[last]
    expect(first.seq == unacked and again.seq == unacked, f"expected 1..{last}, then {unacked} again: {got}")
    expect(not first.proto.redelivered and again.proto.redelivered, f"marks: {got}")
    waited = got.times[last] - got.times[unacked - 1]
    expect(waited >= ACK_WAIT * 0.9, f"came again after {waited} s already")
    # What was acked stays away: the next thing to come is the next message.
    await c.publish("again", last + 1, last + 1)
    await got.wait(last + 2)
    expect(got.messages[last + 1].seq == last + 1, f"expected {last + 1} last: {got}")
    await c.leave()


async def max_inflight(server):
    c, held, free = await server.connect("inflight"), Sink(), Sink()
    await c.subscribe("inflight", held.add, manual_acks=True, max_inflight=5)
    await c.subscribe("inflight", free.add)
    await c.publish("inflight", 1, 20)
    await free.expect_run(1, 20)
    for n in range(5, 20):
        await held.expect_run(1, n)
        await c.stan.ack(held.messages[n - 5])
    await held.expect_run(1, 20)
    await c.leave()


async def goes_on(server):
    c, got = await server.connect("on"), Sink()
    await c.subscribe("on", got.add, ack_wait=ACK_WAIT)
    await c.publish("on", 1, 100)
    await server.crash()
    await c.publish("on", 101, 200)
    await wait_distinct(1, 200, got)
    await c.leave()


async def unsubscribed(server):
    c, gone, stays = await server.connect("no-more"), Sink(), Sink()
    sub = await c.subscribe("no-more", gone.add)
    await c.subscribe("no-more", stays.add)
    await sub.unsubscribe()
    await c.publish("no-more", 1, 10)
    await stays.expect_run(1, 10)
    expect(not gone.messages, f"received {gone}")
    await c.leave()


async def refused(server):
    c = await server.connect("owner")
    await expect_error(server.connect("owner"), "stan: clientID already registered")
    await c.leave()
