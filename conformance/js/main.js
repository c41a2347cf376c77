// The JavaScript part of the conformance suite: the five subscriber patterns with
// node-nats-streaming, unchanged, against the server in $SUT.
'use strict'

const { Suite } = require('./harness')

// Dead clients are dropped within a second or so; live ones have time to answer on a busy machine.
const QUICK_HEARTBEATS = ['-hbi', '300ms', '-hbt', '2s', '-hbf', '2']

async function main () {
  const only = process.argv[2]
  const suite = new Suite()
  for (const [pattern, flags] of [['receive', []], ['resume', []], ['once', []], ['history', []], ['share', QUICK_HEARTBEATS]]) {
    if (only === undefined || only === pattern) await suite.run(pattern, flags, require('./' + pattern))
  }
  console.log(`${suite.passed} passed, ${suite.failed} failed, ${suite.skipped} skipped`)
  process.exit(suite.failed > 0 || suite.passed === 0 ? 1 : 0)
}

main()
