// The server under test (its port, its directory, start and kill -9), the clients that talk to it,
// and the counting of checks.
'use strict'

const { spawn } = require('child_process')
const fs = require('fs')
const net = require('net')
const path = require('path')
const stan = require('node-nats-streaming')

const CLUSTER = 'test-cluster'
const PATIENCE = 15000 // ms; bounds every wait. A pass never comes near it.
const CHECK_TIMEOUT = 90000
const ACK_WAIT = 1000 // the shortest that the protocol allows
// Below the ephemeral range, or a client that dials the dead port could be connected to itself.
const PORT_FIRST = 17000
const PORT_LAST = 22999

const turn = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Polls a condition until it holds. */
async function eventually (what, holds) {
  for (const deadline = Date.now() + PATIENCE; !(await holds()); await turn(3)) {
    if (Date.now() > deadline) throw new Error(`not within ${PATIENCE} ms: ${what}`)
  }
}

/** A small seeded generator (mulberry32): the same seed, the same choices. */
function seeded (seed) {
  return (below) => {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

class Server {
  constructor (name, flags) {
    this.directory = fs.mkdtempSync(path.join(process.env.CONFORMANCE_DATA, `js-${name}-`))
    this.flags = flags
  }

  async start () {
    while (this.port === undefined) this.port = await freePort()
    const log = fs.openSync(path.join(this.directory, 'server.log'), 'a')
    this.process = spawn(process.env.SUT, ['-p', String(this.port), '-cid', CLUSTER, '--store', 'file',
      '--dir', path.join(this.directory, 'data'), '--max_msgs', '0', '--max_bytes', '0', '-mc', '0',
      ...this.flags], { stdio: ['ignore', log, log] })
    fs.closeSync(log)
    const started = this.process
    started.ended = new Promise((resolve) => { started.on('exit', resolve); started.on('error', resolve) })
    const onExit = () => started.kill('SIGKILL')
    process.on('exit', onExit)
    started.ended.then(() => process.off('exit', onExit))
    let exited = false
    started.ended.then(() => { exited = true })
    await eventually('the server is ready', async () => {
      if (exited) throw new Error('server exited at start: ' + this.logTail())
      if (!(await accepts(this.port))) return false
      try {
        await (await this.connect(`ready-${process.hrtime.bigint()}`, { connectTimeout: 500 })).leave()
        return true
      } catch (_) {
        return false
      }
    })
  }

  logTail () {
    return fs.readFileSync(path.join(this.directory, 'server.log'), 'utf8').trim().split('\n').slice(-3).join(' / ')
  }

  /** Ends the server as `kill -9` does. */
  async kill () {
    this.process.kill('SIGKILL')
    await this.process.ended
  }

  async crash () {
    await this.kill()
    await this.start()
  }

  connect (id, options = {}) {
    const connection = stan.connect(CLUSTER, id, {
      url: `nats://127.0.0.1:${this.port}`,
      reconnectTimeWait: 30,
      maxReconnectAttempts: -1,
      connectTimeout: PATIENCE / 4,
      ackTimeout: PATIENCE / 2,
      ...options
    })
    return new Promise((resolve, reject) => {
      connection.on('connect', () => resolve(new Client(connection)))
      // After a refusal the promise is settled and later errors (a killed server) are no news.
      connection.on('error', (error) => reject(error instanceof Error ? error : new Error(error)))
      connection.on('connection_lost', () => {})
    })
  }
}

function freePort () {
  const port = PORT_FIRST + Math.floor(Math.random() * (PORT_LAST - PORT_FIRST))
  return new Promise((resolve) => {
    const listener = net.createServer()
    listener.on('error', () => resolve(undefined))
    listener.listen(port, '127.0.0.1', () => listener.close(() => resolve(port)))
  })
}

function accepts (port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.on('connect', () => { socket.destroy(); resolve(true) })
    socket.on('error', () => resolve(false))
  })
}

const payload = (n) => `message-${n}`

class Client {
  constructor (connection) {
    this.stan = connection
  }

  options () {
    return this.stan.subscriptionOptions()
  }

  publishOne (channel, text) {
    return new Promise((resolve, reject) => {
      this.stan.publish(channel, text, (error) => error ? reject(error instanceof Error ? error : new Error(error)) : resolve())
    })
  }

  /** Publishes messages first..last without waiting between them, then waits for every ack. */
  async publish (channel, first, last) {
    const acks = []
    for (let n = first; n <= last; n++) acks.push(this.publishOne(channel, payload(n)))
    await Promise.all(acks)
  }

  /** Repeats one message until the server acks it. */
  async publishUntilAcked (channel, text) {
    for (const deadline = Date.now() + PATIENCE; Date.now() < deadline;) {
      try {
        return await this.publishOne(channel, text)
      } catch (error) {
        if (error.message !== 'stan: publish ack timeout') throw error
      }
    }
    throw new Error(`no ack for ${text}`)
  }

  /** Subscribes, with a group if it is not empty; `handler` is a function or a Sink. */
  subscribe (channel, handler, options = this.options(), group = '') {
    const sub = this.stan.subscribe(channel, group, options)
    sub.on('message', handler instanceof Sink ? (m) => handler.add(m) : handler)
    return new Promise((resolve, reject) => {
      sub.on('ready', () => resolve(new Subscription(sub)))
      sub.on('error', reject)
      sub.on('timeout', reject)
    })
  }

  leave () {
    return new Promise((resolve, reject) => {
      this.stan.once('close', (error) => error ? reject(error) : resolve())
      this.stan.close()
    })
  }

  /** Drops the connection as the death of the client's process does. */
  cut () {
    this.stan.cleanupOnClose(new Error('cut')) // or its ping timer throws on the closed connection
    this.stan.nc.close()
  }
}

class Subscription {
  constructor (sub) {
    this.sub = sub
  }

  close () { return this.end('closed', () => this.sub.close()) }

  unsubscribe () { return this.end('unsubscribed', () => this.sub.unsubscribe()) }

  end (event, ask) {
    return new Promise((resolve, reject) => {
      this.sub.on(event, resolve)
      this.sub.on('error', reject)
      this.sub.on('timeout', reject)
      ask()
    })
  }
}

/** Collects what subscriptions receive. */
class Sink {
  constructor () {
    this.messages = []
  }

  add (m) {
    this.messages.push({
      sequence: m.getSequence(),
      text: m.getData(),
      redelivered: m.isRedelivered(),
      at: Date.now(),
      ack: () => m.ack()
    })
  }

  toString () {
    return '[' + this.messages.slice(0, 40).map((m) => m.sequence + (m.redelivered ? 'r' : '')).join(' ') + ']'
  }

  async wait (count) {
    await eventually(`${count} messages in ${this}`, () => this.messages.length >= count)
      .catch(() => { throw new Error(`got ${this.messages.length} of ${count} messages: ${this}`) })
  }

  /** Waits for the messages first..last and nothing else before, between or after them. */
  async expectRun (first, last) {
    await this.wait(last - first + 1)
    this.messages.forEach((m, n) => {
      if (m.sequence !== first + n || m.text !== payload(first + n)) throw new Error(`expected ${first + n} next in ${this}`)
    })
    if (this.messages.length !== last - first + 1) throw new Error(`expected the end at ${last} in ${this}`)
  }
}

/** Waits until the sinks have seen the messages first..last between them. */
async function waitDistinct (first, last, ...sinks) {
  let missing
  await eventually('', () => {
    const seen = new Set(sinks.flatMap((k) => k.messages.map((m) => m.sequence)))
    for (missing = first; missing <= last && seen.has(missing);) missing++
    return missing > last
  }).catch(() => { throw new Error(`message ${missing} of ${first}..${last} never came`) })
}

function expect (holds, text) {
  if (!holds) throw new Error(text)
}

/** Expects a promise to fail with this very text. */
async function expectError (promise, text) {
  let error
  await promise.catch((e) => { error = e })
  expect(error && error.message === text, `expected "${text}", got ${error}`)
}

class Suite {
  constructor () {
    this.passed = this.failed = this.skipped = 0
  }

  async check (name, body) {
    let timer
    const timeout = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`still running after ${CHECK_TIMEOUT} ms`)), CHECK_TIMEOUT)
    })
    try {
      await Promise.race([body(), timeout])
      this.passed++
      console.log(`ok js/${this.pattern}: ${name}`)
    } catch (error) {
      this.failed++
      console.log(`FAIL js/${this.pattern}: ${name}: ${String(error && error.message).replaceAll('\n', ' ')}`)
    } finally {
      clearTimeout(timer)
    }
  }

  /** A check that nats-streaming-server itself fails, always or at times; it is skipped there. */
  async checkBeyondReference (name, body) {
    if (process.env.WEIRLOG_REFERENCE !== '1') return this.check(name, body)
    this.skipped++
    console.log(`skip js/${this.pattern}: ${name}`)
  }

  /** Gives a pattern a server of its own and removes the data if all went well. */
  async run (pattern, flags, checks) {
    this.pattern = pattern
    const failedBefore = this.failed
    const server = new Server(pattern, flags)
    let started = false
    try {
      await server.start()
      started = true
    } catch (error) {
      await this.check('the server starts', async () => { throw error })
    }
    if (started) await checks(this, server)
    await server.kill()
    if (this.failed === failedBefore) fs.rmSync(server.directory, { recursive: true })
    else console.log(`# server log and data of js/${pattern}: ${server.directory}`)
  }
}

module.exports = { ACK_WAIT, Server, Client, Sink, Suite, eventually, expect, expectError, payload, seeded, turn, waitDistinct }
