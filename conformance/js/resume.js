// Pattern: pick up where I left off, by a durable name.
'use strict'

const { ACK_WAIT, Sink, expect, expectError, payload, seeded } = require('./harness')

/** Lets a durable receive 1..10, leave, miss 11..20, and come back for them. */
async function away (server, name, between) {
  const [before, after] = [new Sink(), new Sink()]
  let c = await server.connect(name)
  await c.subscribe(name, before, c.options().setDurableName('mark'))
  await c.publish(name, 1, 10)
  await before.expectRun(1, 10)
  await c.leave()
  const other = await server.connect(name + '-publisher')
  await other.publish(name, 11, 20)
  await between()
  c = await server.connect(name)
  await c.subscribe(name, after, c.options().setDurableName('mark'))
  await after.expectRun(11, 20)
  await other.leave()
  await c.leave()
}

/**
 * Processes 1..last one at a time. Now and then the handler fails: it leaves the message to the ack
 * wait, or closes the durable subscription and takes it up again.
 */
async function totalOrder (server, seed) {
  const [last, leavesMax] = [150, 3]
  const random = seeded(seed)
  const processed = []
  let leaves = 0
  const c = await server.connect('total')
  await c.publish('total', 1, last)
  while (processed.length < last) {
    let sub
    const closing = new Promise((resolve, reject) => {
      const handler = (m) => {
        const dice = random(100)
        if (dice < 5 && leaves < leavesMax) return leaves++
        if (dice < 15) return resolve()
        processed.push(m.getData())
        m.ack()
        if (processed.length === last) resolve()
      }
      const options = c.options().setDurableName('mark').setDeliverAllAvailable().setManualAckMode(true)
      sub = c.subscribe('total', handler, options.setMaxInFlight(1).setAckWait(ACK_WAIT))
      sub.catch(reject)
    })
    await closing
    await (await sub).close()
  }
  await c.leave()
  processed.forEach((text, n) => expect(text === payload(n + 1),
    `seed ${seed}: ${text} came in place of ${payload(n + 1)}: ${processed.slice(0, n + 1)}`))
}

module.exports = async (t, server) => {
  await t.check('messages published while away arrive on return', () => away(server, 'away', async () => {}))

  await t.check('messages published while away arrive on return after kill -9',
    () => away(server, 'away-kill', () => server.crash()))

  await t.check('close at the first error, resubscribe: the failed one first, then the rest', async () => {
    const failing = 4
    const [before, after] = [new Sink(), new Sink()]
    const c = await server.connect('error')
    let closed
    const options = () => c.options().setDurableName('mark')
    const sub = await c.subscribe('error', (m) => {
      if (closed) return
      before.add(m)
      if (m.getSequence() === failing) closed = sub.close()
      else m.ack()
    }, options().setManualAckMode(true))
    await c.publish('error', 1, 100)
    await closed
    await before.expectRun(1, failing)
    await c.subscribe('error', after, options())
    await after.expectRun(failing, 100)
    await c.leave()
  })

  await t.check('MaxInflight(1) with manual acks is a total order under a failing handler', () => totalOrder(server, 1))

  await t.check('the same durable name on two channels is two positions', async () => {
    const c = await server.connect('two')
    const options = () => c.options().setDurableName('mark')
    const [left, right, leftAgain, rightAgain] = [new Sink(), new Sink(), new Sink(), new Sink()]
    const subLeft = await c.subscribe('two.left', left, options())
    const subRight = await c.subscribe('two.right', right, options())
    await c.publish('two.left', 1, 5)
    await left.expectRun(1, 5)
    await subLeft.close()
    await subRight.close()
    await c.publish('two.left', 6, 6)
    await c.publish('two.right', 1, 3)
    await c.subscribe('two.left', leftAgain, options())
    await c.subscribe('two.right', rightAgain, options())
    await leftAgain.expectRun(6, 6)
    await rightAgain.expectRun(1, 3)
    await c.leave()
  })

  await t.check('close remembers, unsubscribe forgets', async () => {
    const c = await server.connect('forget')
    await c.publish('forget', 1, 5)
    const options = () => c.options().setDurableName('mark').setDeliverAllAvailable()
    const [first, closed, forgotten] = [new Sink(), new Sink(), new Sink()]
    let sub = await c.subscribe('forget', first, options())
    await first.expectRun(1, 5)
    await sub.close()
    await c.publish('forget', 6, 7)
    sub = await c.subscribe('forget', closed, options())
    await closed.expectRun(6, 7)
    await sub.unsubscribe()
    await c.subscribe('forget', forgotten, options())
    await forgotten.expectRun(1, 7)
    await c.leave()
  })

  await t.check('an active durable cannot be taken twice', async () => {
    const c = await server.connect('twice')
    const options = () => c.options().setDurableName('mark')
    await c.subscribe('twice', new Sink(), options())
    await expectError(c.subscribe('twice', new Sink(), options()), 'stan: duplicate durable registration')
    await c.leave()
  })
}
