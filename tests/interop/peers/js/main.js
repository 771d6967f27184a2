// js-libp2p as an interop peer: commands in on standard input, answers out on standard output, one JSON object a line.

import { createInterface } from 'node:readline'
import { commands } from './commands.js'
import { dhtCommands } from './dht.js'
import { serve } from './handlers.js'
import { Latest, within } from './latest.js'
import { createNode } from './node.js'
import { KEY_TYPES, parseOptions, UsageError } from './options.js'
import pkg from './package.json' with { type: 'json' }

const COMMAND_TIMEOUT = 60_000
const STOP_TIMEOUT = 1_000

const write = (message) => process.stdout.write(`${JSON.stringify(message)}\n`)

/** Tells `closes` the go-away code of each connection the remote closed, null where it sent none. */
function watchCloses (node, closes, closedHere) {
  node.addEventListener('connection:close', ({ detail: connection }) => {
    if (!closedHere.has(connection)) {
      closes.push(connection.muxer?.remoteGoAway ?? null) // only yamux knows of codes
    }
  })
}

async function answer (tables, line) {
  let id = null
  try {
    const request = JSON.parse(line)
    id = request.id
    const table = tables[request.node ?? 0]
    if (table == null) {
      throw new Error(`no node ${request.node}`)
    }
    if (!Object.hasOwn(table, request.cmd)) {
      throw new Error(`unknown command ${request.cmd}`)
    }
    const running = table[request.cmd](request, AbortSignal.timeout(COMMAND_TIMEOUT))
    write({ id, ok: true, result: (await within(COMMAND_TIMEOUT, request.cmd, running)) ?? {} })
  } catch (err) {
    write({ id, ok: false, error: String(err?.message || err).split('\n', 1)[0] })
  }
}

/** A node's commands, its handlers being registered. */
async function tableOf ({ node, privateKey }) {
  const ends = new Latest()
  const closes = new Latest()
  const closedHere = new WeakSet()
  await serve(node, ends)
  watchCloses(node, closes, closedHere)
  return { ...commands({ node, ends, closes, closedHere }), ...dhtCommands({ node, privateKey }) }
}

const described = (node) => ({ peer_id: node.peerId.toString(), addrs: node.getMultiaddrs().map(String) })

async function main () {
  const options = parseOptions(process.argv.slice(2))
  const nodes = []
  const tables = []
  for (let i = 0; i < options.nodes; i++) {
    const made = await createNode(options)
    nodes.push(made.node)
    tables.push(await tableOf(made))
  }

  // The library leaves rejections behind when a remote breaks off; a test peer outlives them.
  process.on('unhandledRejection', (err) => console.error(`unhandled: ${err?.message ?? err}`))

  write({
    ready: true,
    ...described(nodes[0]),
    nodes: nodes.map(described),
    implementation: 'js-libp2p',
    version: `v${pkg.dependencies.libp2p}`,
    key_types: KEY_TYPES,
    commands: Object.keys(tables[0])
  })

  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() !== '') {
      void answer(tables, line)
    }
  }

  await within(STOP_TIMEOUT, 'stop', Promise.all(nodes.map((node) => node.stop()))).catch(() => {})
  process.exit(0)
}

main().catch((err) => {
  console.error(err.message)
  process.exit(err instanceof UsageError ? 2 : 1)
})
