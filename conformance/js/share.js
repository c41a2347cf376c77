// Pattern: share the work among the members of a queue group.
'use strict'

const { ACK_WAIT, Sink, expect, seeded, waitDistinct } = require('./harness')

/** A client with one queue subscription. `set` chooses its options. */
async function join (server, id, channel, set = (o) => o) {
  const client = await server.connect(id)
  const got = new Sink()
  const sub = await client.subscribe(channel, got, set(client.options().setAckWait(ACK_WAIT)), 'workers')
  return { client, got, sub, leave: () => client.leave(), cut: () => client.cut() }
}

async function eachToOne (server, channel, set) {
  const last = 600
  const members = []
  for (let n = 0; n < 3; n++) members.push(await join(server, `each-${n}`, channel, (o) => set(o).setAckWait(30000)))
  await members[0].client.publish(channel, 1, last)
  await waitDistinct(1, last, ...members.map((m) => m.got))
  const counts = members.map((m) => m.got.messages.length)
  expect(Math.min(...counts) > 0, `a member received nothing: ${counts}`)
  expect(counts.reduce((a, b) => a + b) === last, `${counts} deliveries of ${last} messages`)
  for (const m of members) await m.leave()
}

/** Cuts off a member that has acked nothing of what it got. */
async function memberDies (server, channel, set) {
  const dying = await join(server, 'dying', channel, (o) => set(o).setManualAckMode(true))
  const first = await join(server, 'first-heir', channel, set)
  const second = await join(server, 'second-heir', channel, set)
  await first.client.publish(channel, 1, 40)
  await dying.got.wait(1)
  dying.cut()
  await first.client.publish(channel, 41, 80)
  await waitDistinct(1, 80, first.got, second.got)
  await first.leave()
  await second.leave()
}

/** Keeps one member and lets others join and leave while messages are published. */
async function comeAndGo (server, channel, set) {
  const [rounds, perRound] = [12, 50]
  const random = seeded(1)
  const stays = await join(server, 'stays', channel, set)
  const [present, sinks] = [[], [stays.got]]
  for (let round = 0; round < rounds; round++) {
    const published = stays.client.publish(channel, round * perRound + 1, (round + 1) * perRound)
    if (present.length === 0 || random(2) === 0) {
      const m = await join(server, `comes-${round}`, channel, set)
      present.push(m)
      sinks.push(m.got)
    } else {
      await present.splice(random(present.length), 1)[0].leave()
    }
    await published
  }
  await waitDistinct(1, rounds * perRound, ...sinks)
  for (const m of [...present, stays]) await m.leave()
}

async function groupSurvives (server, channel, set) {
  const left = await join(server, 'left', channel, set)
  const right = await join(server, 'right', channel, set)
  await left.client.publish(channel, 1, 100)
  await server.crash()
  await left.client.publish(channel, 101, 200)
  await waitDistinct(1, 200, left.got, right.got)
  // A member whose client reconnects late has its share once it is back.
  const isBack = (m) => m.got.messages.at(-1).sequence > 100
  for (let last = 200; !isBack(left) || !isBack(right); last += 10) {
    expect(last <= 1200, 'a member received nothing after the kill')
    await left.client.publish(channel, last + 1, last + 10)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  for (const m of [left, right]) await m.leave()
}

/** Lets two members take 1..10 and leave; a newcomer under another client id goes on at 11. */
async function outlives (server, channel, between) {
  const durable = (o) => o.setDurableName('mark')
  const first = await join(server, 'first', channel, durable)
  const second = await join(server, 'second', channel, durable)
  await first.client.publish(channel, 1, 10)
  await waitDistinct(1, 10, first.got, second.got)
  await second.leave()
  await first.leave()
  await between()
  const publisher = await server.connect('publisher')
  await publisher.publish(channel, 11, 20)
  const third = await join(server, 'third', channel, durable)
  await third.got.expectRun(11, 20)
  await publisher.leave()
  await third.leave()
}

module.exports = async (t, server) => {
  const durable = (o) => o.setDurableName('mark')
  for (const [kind, name, set] of [['queue', 'q', (o) => o], ['durable queue', 'd', durable]]) {
    await t.check(`${kind}: each message goes to one member, all take part`, () => eachToOne(server, 'each.' + name, set))
    await t.check(`${kind}: a member that dies loses nothing`, () => memberDies(server, 'dies.' + name, set))
    await t.check(`${kind}: members leaving and joining lose nothing`, () => comeAndGo(server, 'come.' + name, set))
    await t.check(`${kind}: the group goes on over kill -9 of the server`, () => groupSurvives(server, 'survives.' + name, set))
  }
  await t.check('a durable queue outlives all its members', () => outlives(server, 'outlives', async () => {}))
  await t.check('a durable queue outlives all its members and kill -9', () => outlives(server, 'outlives-kill', () => server.crash()))
  await t.check('a durable queue whose members all died keeps what they had not acked', async () => {
    const m = await join(server, 'all-die', 'all-die', (o) => durable(o).setManualAckMode(true))
    await m.client.publish('all-die', 1, 10)
    await m.got.expectRun(1, 10)
    m.cut()
    const heir = await join(server, 'heir', 'all-die', durable)
    await waitDistinct(1, 10, heir.got)
    await heir.leave()
  })
  await t.check("the last member's leaving ends a queue, its unsubscribe a durable queue", async () => {
    for (const [channel, end, set] of [['ends.q', 'close', (o) => o], ['ends.d', 'unsubscribe', durable]]) {
      let m = await join(server, 'ends', channel, set)
      await m.client.publish(channel, 1, 5)
      await m.got.expectRun(1, 5)
      await m.sub[end]()
      await m.client.publish(channel, 6, 10)
      await m.leave()
      m = await join(server, 'ends', channel, (o) => set(o).setStartAtSequence(3))
      await m.got.expectRun(3, 10)
      await m.leave()
    }
  })
}
