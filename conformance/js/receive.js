// Pattern: receive what is published from now on, in order, until acked.
'use strict'

const { ACK_WAIT, Sink, expect, expectError, waitDistinct } = require('./harness')

module.exports = async (t, server) => {
  await t.check('2000 messages arrive in order', async () => {
    const c = await server.connect('order')
    const got = new Sink()
    await c.subscribe('order', got)
    await c.publish('order', 1, 2000)
    await got.expectRun(1, 2000)
    await c.leave()
  })

  await t.check('an unacked message comes again after the ack wait while later ones flow', async () => {
    const [unacked, last] = [10, 50]
    const c = await server.connect('again')
    const got = new Sink()
    await c.subscribe('again', (m) => {
      got.add(m)
      if (m.getSequence() !== unacked || m.isRedelivered()) m.ack()
    }, c.options().setManualAckMode(true).setAckWait(ACK_WAIT))
    await c.publish('again', 1, last)
    await got.wait(last + 1)
    const [first, again] = [got.messages[unacked - 1], got.messages[last]]
    expect(first.sequence === unacked && again.sequence === unacked, `expected 1..${last}, then ${unacked} again: ${got}`)
    expect(!first.redelivered && again.redelivered, `marks: ${got}`)
    expect(again.at - first.at >= ACK_WAIT * 0.9, `came again after ${again.at - first.at} ms already`)
    // What was acked stays away: the next thing to come is the next message.
    await c.publish('again', last + 1, last + 1)
    await got.wait(last + 2)
    expect(got.messages[last + 1].sequence === last + 1, `expected ${last + 1} last: ${got}`)
    await c.leave()
  })

  await t.check('at most MaxInflight messages are out unacked', async () => {
    const c = await server.connect('inflight')
    const [held, free] = [new Sink(), new Sink()]
    await c.subscribe('inflight', held, c.options().setManualAckMode(true).setMaxInFlight(5))
    await c.subscribe('inflight', free)
    await c.publish('inflight', 1, 20)
    await free.expectRun(1, 20)
    for (let n = 5; n < 20; n++) {
      await held.expectRun(1, n)
      held.messages[n - 5].ack()
    }
    await held.expectRun(1, 20)
    await c.leave()
  })

  await t.check('a live subscription goes on over kill -9 of the server', async () => {
    const c = await server.connect('on')
    const got = new Sink()
    await c.subscribe('on', got, c.options().setAckWait(ACK_WAIT))
    await c.publish('on', 1, 100)
    await server.crash()
    await c.publish('on', 101, 200)
    await waitDistinct(1, 200, got)
    await c.leave()
  })

  await t.check('an unsubscribed subscription receives no more', async () => {
    const c = await server.connect('no-more')
    const [gone, stays] = [new Sink(), new Sink()]
    const sub = await c.subscribe('no-more', gone)
    await c.subscribe('no-more', stays)
    await sub.unsubscribe()
    await c.publish('no-more', 1, 10)
    await stays.expectRun(1, 10)
    expect(gone.messages.length === 0, `received ${gone}`)
    await c.leave()
  })

  await t.check('a client id is refused while its owner is alive', async () => {
    const c = await server.connect('owner')
    await expectError(server.connect('owner'), 'stan: clientID already registered')
    await c.leave()
  })
}
