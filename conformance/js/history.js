// Pattern: read the history from a position; a durable knows its position better.
'use strict'

const { Sink, eventually } = require('./harness')

const CHANNEL = 'past'
const OLD = 10

module.exports = async (t, server) => {
  let between // a moment after messages 1..OLD and before all others
  let last
  await t.check('20 messages, 10 of them a second older', async () => {
    const c = await server.connect('publisher')
    await c.publish(CHANNEL, 1, OLD)
    const published = Date.now()
    between = published + 500
    await eventually('a second passes', () => Date.now() > published + 1000)
    last = 2 * OLD
    await c.publish(CHANNEL, OLD + 1, last)
    await c.leave()
  })

  // Name, setter, and the first message that it promises.
  const positions = [
    ['DeliverAllAvailable', (o) => o.setDeliverAllAvailable(), () => 1],
    ['StartWithLastReceived', (o) => o.setStartWithLastReceived(), () => last],
    ['StartAtSequence', (o) => o.setStartAtSequence(7), () => 7],
    ['StartAtTime', (o) => o.setStartTime(new Date(between)), () => OLD + 1],
    ['StartAtTimeDelta', (o) => o.setStartAtTimeDelta(Date.now() - between), () => OLD + 1]
  ]

  const readFrom = async (position, first) => {
    const c = await server.connect('reader')
    const got = new Sink()
    await c.subscribe(CHANNEL, got, position(c.options()))
    await got.expectRun(first(), last)
    await c.leave()
  }

  // Gives a durable its start position twice; only the first counts.
  const durableWins = async (position, first, durable, pause) => {
    const [before, after] = [new Sink(), new Sink()]
    let c = await server.connect(durable)
    await c.subscribe(CHANNEL, before, position(c.options()).setDurableName(durable))
    await before.expectRun(first(), last)
    await c.leave()
    await pause()
    c = await server.connect(durable)
    await c.publish(CHANNEL, last + 1, last + 2)
    last += 2
    await c.subscribe(CHANNEL, after, position(c.options()).setDurableName(durable))
    await after.expectRun(last - 1, last)
    await c.leave()
  }

  const newOnly = async (channel, position) => {
    const c = await server.connect(channel)
    await c.publish(channel, 1, 5)
    const got = new Sink()
    await c.subscribe(channel, got, position(c.options()))
    await c.publish(channel, 6, 10)
    await got.expectRun(6, 10)
    await c.leave()
  }

  for (const [name, position, first] of positions) await t.check(name, () => readFrom(position, first))
  await t.check('without a position only new messages come', () => newOnly('new-only', (o) => o))
  await t.check('a position past the end waits for new messages', () => newOnly('past-end', (o) => o.setStartAtSequence(100)))
  for (const [name, position, first] of positions) {
    await t.check(`${name} with a durable: the durable wins on resume`,
      () => durableWins(position, first, 'mark-' + name, async () => {}))
  }
  for (const [name, position, first] of positions) {
    await t.check(`${name} after kill -9`, async () => {
      await server.crash()
      await readFrom(position, first)
    })
  }
  for (const [name, position, first] of positions) {
    await t.check(`${name} with a durable: only what is new after kill -9`,
      () => durableWins(position, first, 'mark-kill-' + name, () => server.crash()))
  }
}
