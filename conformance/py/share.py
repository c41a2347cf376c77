"""Pattern: share the work among the members of a queue group."""

import asyncio
import random

from harness import ACK_WAIT, Sink, expect, wait_distinct

DURABLE = {"durable_name": "mark"}


class Member:
    """A client with one queue subscription, which acks what it gets, or nothing if it is idle."""

    def __init__(self, client):
        self.client = client
        self.got = Sink()
        self.sub = None


async def join(server, client_id, channel, idle=False, ack_wait=ACK_WAIT, **options):
    m = Member(await server.connect(client_id))
    options.update(queue="workers", ack_wait=ack_wait)
    if idle:
        m.sub = await m.client.subscribe(channel, m.got.add, manual_acks=True, **options)
    else:
        m.sub = await m.client.collect(channel, m.got, **options)
    return m


async def checks(t, server):
    async def nothing():
        pass

    for kind, name, options in [("queue", "q", {}), ("durable queue", "d", DURABLE)]:
        await t.check(
            f"{kind}: each message goes to one member, all take part", each_to_one(server, "each." + name, options)
        )
        await t.check(f"{kind}: a member that dies loses nothing", member_dies(server, "dies." + name, options))
        await t.check(
            f"{kind}: members leaving and joining lose nothing", come_and_go(server, "come." + name, options)
        )
        await t.check(
            f"{kind}: the group goes on over kill -9 of the server",
            group_survives(server, "survives." + name, options),
        )
    await t.check("a durable queue outlives all its members", outlives(server, "outlives", nothing))
    await t.check(
        "a durable queue outlives all its members and kill -9", outlives(server, "outlives-kill", server.crash)
    )
    await t.check("a durable queue whose members all died keeps what they had not acked", all_die(server))
    await t.check("the last member's leaving ends a queue, its unsubscribe a durable queue", ends(server))


async def each_to_one(server, channel, options):
    last = 600
    members = [await join(server, f"each-{n}", channel, ack_wait=30, **options) for n in range(3)]
    await members[0].client.publish(channel, 1, last)
    await wait_distinct(1, last, *(m.got for m in members))
    counts = [len(m.got.messages) for m in members]
    expect(min(counts) > 0, f"a member received nothing: {counts}")
    expect(sum(counts) == last, f"{counts} deliveries of {last} messages")
    for m in members:
        await m.client.leave()


async def member_dies(server, channel, options):
    """Cuts off a member that has acked nothing of what it got."""
    dying = await join(server, "dying", channel, idle=True, **options)
    first = await join(server, "first-heir", channel, **options)
    second = await join(server, "second-heir", channel, **options)
    await first.client.publish(channel, 1, 40)
    await dying.got.wait(1)
    await dying.client.cut()
    await first.client.publish(channel, 41, 80)
    await wait_distinct(1, 80, first.got, second.got)
    await first.client.leave()
    await second.client.leave()


async def come_and_go(server, channel, options):
    """Keeps one member and lets others join and leave while messages are published."""
    rounds, per_round, dice = 12, 50, random.Random(1)
    stays = await join(server, "stays", channel, **options)
    present, sinks = [], [stays.got]
    for number in range(rounds):
        first = number * per_round + 1
        await stays.client.publish(channel, first, first + per_round // 2 - 1)
        if not present or dice.random() < 0.5:
            present.append(await join(server, f"comes-{number}", channel, **options))
            sinks.append(present[-1].got)
        else:
            await present.pop(dice.randrange(len(present))).client.leave()
        await stays.client.publish(channel, first + per_round // 2, first + per_round - 1)
    await wait_distinct(1, rounds * per_round, *sinks)
    for m in [*present, stays]:
        await m.client.leave()


async def group_survives(server, channel, options):
    left = await join(server, "left", channel, **options)
    right = await join(server, "right", channel, **options)
    await left.client.publish(channel, 1, 100)
    await server.crash()
    await left.client.publish(channel, 101, 200)
    await wait_distinct(1, 200, left.got, right.got)
    # A member whose client reconnects late has its share once it is back.
    last = 200
    while min(m.got.messages[-1].seq for m in (left, right)) <= 100:
        expect(last <= 1200, "a member received nothing after the kill")
        await left.client.publish(channel, last + 1, last + 10)
        last += 10
        await asyncio.sleep(0.1)
    for m in (left, right):
        await m.client.leave()


async def outlives(server, channel, between):
    """Lets two members take 1..10 and leave; a newcomer under another client id goes on at 11."""
    first = await join(server, "first", channel, **DURABLE)
    second = await join(server, "second", channel, **DURABLE)
    await first.client.publish(channel, 1, 10)
    await wait_distinct(1, 10, first.got, second.got)
    await second.client.leave()
    await first.client.leave()
    await between()
    publisher = await server.connect("publisher")
    await publisher.publish(channel, 11, 20)
    third = await join(server, "third", channel, **DURABLE)
    await third.got.expect_run(11, 20)
    await publisher.leave()
    await third.client.leave()


async def all_die(server):
    m = await join(server, "all-die", "all-die", idle=True, **DURABLE)
    await m.client.publish("all-die", 1, 10)
    await m.got.expect_run(1, 10)
    await m.client.cut()
    heir = await join(server, "heir", "all-die", **DURABLE)
    await wait_distinct(1, 10, heir.got)
    await heir.client.leave()


async def ends(server):
    for channel, options in [("ends.q", {}), ("ends.d", DURABLE)]:
        m = await join(server, "ends", channel, **options)
        await m.client.publish(channel, 1, 5)
        await m.got.expect_run(1, 5)
        await (m.sub.unsubscribe() if options else m.sub.close())
        await m.client.publish(channel, 6, 10)
        await m.client.leave()
        m = await join(server, "ends", channel, start_at="sequence", sequence=3, **options)
        await m.got.expect_run(3, 10)
        await m.client.leave()
