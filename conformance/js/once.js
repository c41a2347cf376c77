// Pattern: process each message exactly once, by its sequence, in a file of the client's own.
'use strict'

const fs = require('fs')
const path = require('path')
const { ACK_WAIT, Sink, eventually, expect, seeded, turn } = require('./harness')

const CHANNEL = 'once'
const KILLS = 4
const PUBLISHERS = 8

/**
 * Appends each message that it processes to a file and so knows the last one, over any restart of
 * its own. It takes messages in sequence only: what it has had it acks again, what comes too early
 * it leaves to the ack wait.
 */
class Processor {
  constructor (server) {
    this.server = server
    this.file = path.join(server.directory, 'processed')
  }

  lines () {
    return fs.existsSync(this.file) ? fs.readFileSync(this.file, 'utf8').trim().split('\n') : []
  }

  /** Drops the connection as a killed process would and begins anew from the file. */
  async restart () {
    if (this.client) this.client.cut()
    this.last = Number((this.lines().at(-1) || '0').split(' ')[0])
    await eventually('the processor subscribes', async () => {
      let c
      try {
        c = await this.server.connect('processor', { connectTimeout: 1000 })
        const options = c.options().setDurableName('mark').setDeliverAllAvailable().setManualAckMode(true)
        await c.subscribe(CHANNEL, (m) => this.process(m), options.setAckWait(ACK_WAIT).setMaxInFlight(64))
        this.client = c
        return true
      } catch (_) {
        if (c) c.cut()
        return false
      }
    })
  }

  process (m) {
    if (m.getSequence() > this.last + 1) return
    if (m.getSequence() === this.last + 1) {
      fs.appendFileSync(this.file, `${m.getSequence()} ${m.getData()}\n`)
      this.last = m.getSequence()
    }
    m.ack()
  }
}

/** Maps the sequences of a subscription to its messages; a sequence with two of them is a conflict. */
class Ledger {
  constructor () {
    this.entries = new Map()
    this.conflicts = []
    this.last = 0
  }

  add (m) {
    const entry = `${m.getData()} at ${m.getTimestampRaw()}`
    const before = this.entries.get(m.getSequence())
    if (before !== undefined && before !== entry) this.conflicts.push(`${m.getSequence()} was ${before}, is ${entry}`)
    this.entries.set(m.getSequence(), entry)
    this.last = Math.max(this.last, m.getSequence())
  }

  text (sequence) {
    return (this.entries.get(sequence) || '').split(' at ')[0]
  }

  expectSame (other) {
    expect(this.conflicts.length === 0 && other.conflicts.length === 0, `a sequence changed: ${this.conflicts[0] || other.conflicts[0]}`)
    expect(this.entries.size === other.entries.size, `${this.entries.size} messages against ${other.entries.size}`)
    for (const [sequence, entry] of this.entries) {
      expect(other.entries.get(sequence) === entry, `${sequence} was ${entry}, is ${other.entries.get(sequence)}`)
    }
  }
}

/** Reads the channel from its first to its last message and checks that there is no hole. */
async function readAll (server) {
  const c = await server.connect('auditor')
  const [newest, ledger] = [new Sink(), new Ledger()]
  await c.subscribe(CHANNEL, newest, c.options().setStartWithLastReceived())
  await newest.wait(1)
  const last = newest.messages[0].sequence
  await c.subscribe(CHANNEL, (m) => ledger.add(m), c.options().setDeliverAllAvailable())
  await eventually(`read up to ${last}`, () => ledger.last >= last)
  expect(ledger.entries.size === last, `${ledger.entries.size} messages under sequences up to ${last}`)
  await c.leave()
  return ledger
}

/** Publishes until told to stop; what is not acked in time is published again. */
async function startPublishers (server, acked) {
  const c = await server.connect('publisher', { ackTimeout: 1000 })
  let stopping = false
  const publisher = async (number) => {
    for (let n = 0; !stopping; n++) {
      await c.publishUntilAcked(CHANNEL, `${number}-${n}`)
      acked.push(`${number}-${n}`)
    }
  }
  const running = Promise.all([...Array(PUBLISHERS).keys()].map(publisher))
  running.catch(() => {}) // told by stop()
  return async () => {
    stopping = true
    await running
    await c.leave()
  }
}

async function waitMore (acked, more) {
  const target = acked.length + more
  await eventually(`${more} more messages are acked`, () => acked.length >= target)
}

module.exports = async (t, server) => {
  const random = seeded(2)
  const processor = new Processor(server)
  const seen = new Ledger()
  const acked = []
  let history = new Ledger()
  await t.checkBeyondReference(`${KILLS} kills of the server, as many restarts of the client, publishing goes on`, async () => {
    const observer = await server.connect('observer')
    await observer.subscribe(CHANNEL, (m) => seen.add(m), observer.options().setDeliverAllAvailable().setAckWait(ACK_WAIT))
    await processor.restart()
    const stop = await startPublishers(server, acked)
    for (let kill = 0; kill < KILLS; kill++) {
      await waitMore(acked, 50)
      await turn(random(200))
      await server.kill()
      if (random(2) === 0) processor.client.cut()
      await server.start()
      await waitMore(acked, 50)
      await turn(random(200))
      await processor.restart()
    }
    await stop()
    history = await readAll(server)
    await eventually('the processor is through', () => processor.last === history.last)
    await eventually('the observer has it all', () => seen.entries.size === history.entries.size)
    observer.cut()
    processor.client.cut()
  })
  await t.checkBeyondReference('each message was processed once, in sequence', async () => {
    const lines = processor.lines()
    lines.forEach((line, n) => expect(line === `${n + 1} ${history.text(n + 1)}`, `line ${n + 1} is ${line}`))
    expect(lines.length === history.last, `${lines.length} processed of ${history.last}`)
  })
  await t.checkBeyondReference('all that was acked to the publishers is there', async () => {
    const there = new Set([...history.entries.keys()].map((sequence) => history.text(sequence)))
    const lost = acked.filter((text) => !there.has(text))
    expect(acked.length > 0 && lost.length === 0, `${lost.length} of ${acked.length} acked messages are lost, ${lost[0]} first`)
  })
  await t.checkBeyondReference('sequences keep their messages, after one more kill too', async () => {
    seen.expectSame(history)
    await server.crash()
    history.expectSame(await readAll(server))
    const c = await server.connect('next')
    await c.publishOne(CHANNEL, 'the next')
    await c.leave()
    const after = await readAll(server)
    expect(after.last === history.last + 1 && after.text(after.last) === 'the next', `the next sequence after ${history.last} is ${after.last}`)
  })
}
