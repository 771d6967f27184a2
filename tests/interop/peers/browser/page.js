// The page's part: a js-libp2p node as a user's page would make it, and the commands of CONTRACT.md on it.

import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { ipnsSelector } from 'ipns/selector'
import { ipnsValidator } from 'ipns/validator'
import { createLibp2p } from 'libp2p'
import { commands } from './shared/commands.js'
import { dhtCommands } from './shared/dht.js'
import { MAX_STREAMS, serve } from './shared/handlers.js'
import { Latest, within } from './shared/latest.js'

const COMMAND_TIMEOUT = 60_000 // ms

const KEY_TYPES = { ed25519: 'Ed25519', secp256k1: 'secp256k1', rsa: 'RSA' }

async function createNode (options) {
  const services = { identify: identify(), identifyPush: identifyPush(), ping: ping() }
  if (options.dht !== 'off') {
    services.dht = kadDHT({
      // In `v` the last writer wins: any value is valid, the first of several is taken. The library itself knows `pk`.
      validators: { v: () => {}, ipns: ipnsValidator },
      selectors: { v: () => 0, ipns: ipnsSelector },
      protocol: `${options['dht-prefix']}/kad/1.0.0`,
      clientMode: true, // nobody can dial a page
      peerInfoMapper: passthroughMapper, // the default one drops loopback addresses
      allowQueryWithZeroPeers: true
    })
  }
  const privateKey = await generateKeyPair(KEY_TYPES[options['key-type']])
  const node = await createLibp2p({
    privateKey,
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS })],
    connectionGater: { denyDialMultiaddr: () => false }, // in a browser the default one denies loopback, and ws without TLS
    connectionManager: { reconnectRetries: 0 }, // a closed connection stays closed
    services
  })
  return { node, privateKey }
}

let table = {}

/** Makes the node; its id and the commands it can serve. */
async function start (options) {
  const { node, privateKey } = await createNode(options)
  const ends = new Latest()
  await serve(node, ends)
  table = { ...commands({ node, ends, closes: new Latest(), closedHere: new WeakSet() }), ...dhtCommands({ node, privateKey }) }
  for (const unable of ['stats', 'last_close']) {
    delete table[unable]
  }
  return { peer_id: node.peerId.toString(), addrs: [], commands: Object.keys(table), key_types: Object.keys(KEY_TYPES) }
}

/** Runs one command. */
async function run ({ cmd, ...request }) {
  if (!Object.hasOwn(table, cmd)) {
    throw new Error(`unknown command ${cmd}`)
  }
  const running = table[cmd](request, AbortSignal.timeout(COMMAND_TIMEOUT))
  return (await within(COMMAND_TIMEOUT, cmd, running)) ?? {}
}

globalThis.peer = { start, run }
