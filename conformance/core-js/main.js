// Core NATS with @nats-io/transport-node, unchanged, against the server in $SUT on two cores: pub/sub, request and
// reply, headers, queue groups, drain, errors, reconnect.
'use strict'

const { spawn } = require('child_process')
const fs = require('fs')
const net = require('net')
const path = require('path')
const { connect, headers } = require('@nats-io/transport-node')

const PATIENCE = 15000 // ms; bounds every wait. A pass never comes near it.
// Below the ephemeral range, and other than those of the other parts.
const port = 31000 + Math.floor(Math.random() * 1500)

const turn = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

function expect (holds, text) {
  if (!holds) throw new Error(text)
}

/** Polls a condition until it holds. */
async function eventually (what, holds) {
  for (const deadline = Date.now() + PATIENCE; !(await holds()); await turn(3)) {
    expect(Date.now() < deadline, `not within ${PATIENCE} ms: ${what}`)
  }
}

class Server {
  constructor () {
    this.directory = fs.mkdtempSync(path.join(process.env.CONFORMANCE_DATA, 'core-js-'))
  }

  async start () {
    const log = fs.openSync(path.join(this.directory, 'server.log'), 'a')
    const flags = ['-p', String(port), '--store', 'memory', '-cores', '2']
    this.process = spawn(process.env.SUT, flags, { stdio: ['ignore', log, log] })
    fs.closeSync(log)
    this.ended = new Promise((resolve) => { this.process.on('exit', resolve); this.process.on('error', resolve) })
    await eventually('the server listens', () => new Promise((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true) })
      socket.on('error', () => resolve(false))
    }))
  }

  async kill () {
    this.process.kill('SIGKILL')
    await this.ended
  }
}

/** Connections that are spread over the cores. */
async function connections (count) {
  const options = { servers: `127.0.0.1:${port}`, reconnectTimeWait: 50, maxReconnectAttempts: -1 }
  return Promise.all(Array.from({ length: count }, () => connect(options)))
}

const closeAll = (clients) => Promise.all(clients.map((client) => client.close()))

const checks = {
  async 'order: messages of one publisher reach each subscriber in order, on whatever core it is' () {
    const [publisher, ...others] = await connections(5)
    const heard = await Promise.all(others.map(async (client) => {
      const got = []
      client.subscribe('numbers.*', { callback: (_, message) => got.push(Number(message.string())) })
      await client.flush()
      return got
    }))
    for (let number = 0; number < 2000; number++) publisher.publish('numbers.all', String(number))
    await publisher.flush()
    await eventually('all messages came', () => heard.every((got) => got.length === 2000))
    expect(heard.every((got) => got.every((number, index) => number === index)), 'in order')
    await closeAll([publisher, ...others])
  },

  async 'request: a request is answered with headers, and one that nobody receives fails at once' () {
    const [asker, service] = await connections(2)
    service.subscribe('upper', {
      callback: (_, message) => {
        const answer = headers()
        answer.set('X-Was', message.headers.get('X-Is'))
        message.respond(message.string().toUpperCase(), { headers: answer })
      }
    })
    await service.flush()
    for (let number = 0; number < 100; number++) {
      const asked = headers()
      asked.set('X-Is', String(number))
      const noMux = number % 2 === 0
      const reply = await asker.request('upper', `a${number}`, { timeout: 5000, headers: asked, noMux })
      expect(reply.string() === `A${number}`, 'the answer')
      expect(reply.headers.get('X-Was') === String(number), 'its headers')
    }
    const begun = Date.now()
    const failure = await asker.request('nobody', '', { timeout: 10000 }).then(() => null, (error) => error)
    expect(failure !== null && /no responders/i.test(String(failure)), `nobody is there: ${failure}`)
    expect(Date.now() - begun < 5000, 'at once')
    await closeAll([asker, service])
  },

  async 'queue: a queue group shares messages over all cores, each to one member' () {
    const [publisher, ...members] = await connections(5)
    const counts = members.map(() => 0)
    for (const [index, member] of members.entries()) {
      member.subscribe('work', { queue: 'workers', callback: () => { counts[index]++ } })
      await member.flush()
    }
    for (let number = 0; number < 1000; number++) publisher.publish('work', 'x')
    await publisher.flush()
    const sum = () => counts.reduce((left, right) => left + right)
    await eventually('all work was given out', () => sum() >= 1000)
    expect(sum() === 1000, `each once: ${counts}`)
    expect(counts.every((count) => count >= 150 && count <= 350), `fairly: ${counts}`)
    await closeAll([publisher, ...members])
  },

  async 'drain: a client that drains gets all that came before, and nothing is lost in its group' () {
    const [publisher, first, second] = await connections(3)
    let done = 0
    for (const member of [first, second]) {
      member.subscribe('jobs', { queue: 'workers', callback: () => { done++ } })
      await member.flush()
    }
    for (let number = 0; number < 1000; number++) {
      publisher.publish('jobs', 'x')
      if (number === 500) {
        await publisher.flush()
        await first.drain()
      }
    }
    await publisher.flush()
    await eventually('all jobs were done', () => done >= 1000)
    await turn(50)
    expect(done === 1000, `each once: ${done}`)
    expect(first.isClosed(), 'the drained client is closed')
    let few = 0
    second.subscribe('few', { max: 3, callback: () => { few++ } })
    for (let number = 0; number < 5; number++) second.publish('few', 'x')
    await second.flush()
    expect(few === 3, `an unsubscribe with a maximum: ${few}`)
    await closeAll([publisher, second])
  },

  async 'reconnect: subscriptions are there again after the server was killed' (server) {
    const [publisher, subscriber] = await connections(2)
    let got = 0
    subscriber.subscribe('again', { callback: () => { got++ } })
    await subscriber.flush()
    await server.kill()
    await server.start()
    await eventually('a message came through', async () => {
      publisher.publish('again', 'x')
      await Promise.race([publisher.flush().catch(() => {}), turn(100)])
      return got > 0
    })
    await closeAll([publisher, subscriber])
  }
}

async function main () {
  const server = new Server()
  await server.start()
  let passed = 0
  let failed = 0
  for (const [name, check] of Object.entries(checks)) {
    const late = turn(60000).then(() => { throw new Error('no end') })
    try {
      await Promise.race([check(server), late])
      passed++
      console.log(`ok core-js/${name}`)
    } catch (error) {
      failed++
      console.log(`FAIL core-js/${name} (${error})`)
    }
    late.catch(() => {})
  }
  await server.kill()
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed > 0 || passed === 0 ? 1 : 0)
}

main()
