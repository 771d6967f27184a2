// The commands on peers, connections and streams.

import { randomBytes } from 'node:crypto'
import { publicKeyFromProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { AWAIT_RESET, ECHO, RESET } from './handlers.js'
import { within } from './latest.js'
import { endedByReset, incoming, send, take } from './streams.js'

const PATIENCE = 5_000 // ms, of last_reset and last_close

/** One chunk after the other, so that a chunk is what the muxer is given at a time. */
async function sendAll (stream, data, chunk) {
  for (let offset = 0; offset < data.byteLength; offset += chunk) {
    await send(stream, data.subarray(offset, offset + chunk))
  }
}

/** Reads to the end of input; the count and whether it is what was sent. */
async function compare (stream, data) {
  let bytes = 0
  let ok = true
  for await (const part of incoming(stream)) {
    const received = part.subarray()
    ok &&= Buffer.compare(received, data.subarray(bytes, bytes + received.byteLength)) === 0
    bytes += received.byteLength
  }
  return { bytes, ok: ok && bytes === data.byteLength }
}

export function commands ({ node, ends, closes, closedHere }) {
  const connectionTo = (peer) => {
    const [connection] = node.getConnections(peerIdFromString(peer))
    if (connection == null) {
      throw new Error(`not connected to ${peer}`)
    }
    return connection
  }
  const open = (peer, protocol, signal) => connectionTo(peer).newStream(protocol, { signal })

  return {
    async connect ({ addr }, signal) {
      const connection = await node.dial(multiaddr(addr), { signal })
      return {
        peer_id: connection.remotePeer.toString(),
        security: connection.encryption === 'native' ? null : connection.encryption, // QUIC has neither
        muxer: connection.multiplexer === 'quic' ? null : connection.multiplexer
      }
    },

    async disconnect ({ peer }, signal) {
      node.getConnections(peerIdFromString(peer)).forEach((connection) => closedHere.add(connection))
      await node.hangUp(peerIdFromString(peer), { signal })
    },

    async peers () {
      return { peers: node.getPeers().map(String) }
    },

    async ping ({ peer, count }, signal) {
      const rtts = []
      for (let i = 0; i < count; i++) {
        rtts.push(await node.services.ping.ping(peerIdFromString(peer), { signal })) // whole ms, as the library has it
      }
      return { rtt_ms: rtts }
    },

    async identify ({ peer }, signal) {
      const seen = await node.services.identify.identify(connectionTo(peer), { signal })
      const record = await node.peerStore.get(seen.peerId)
      const key = seen.publicKey == null ? record.id.publicKey : publicKeyFromProtobuf(seen.publicKey)
      return {
        agent: seen.agentVersion ?? null,
        protocol_version: seen.protocolVersion ?? null,
        protocols: seen.protocols,
        listen_addrs: seen.listenAddrs.map(String),
        observed_addr: seen.observedAddr?.toString() ?? null,
        key_type: key?.type.toLowerCase() ?? null
      }
    },

    async echo ({ peer, size, chunk }, signal) {
      const stream = await open(peer, ECHO, signal)
      const data = randomBytes(size)
      const [result] = await Promise.all([
        compare(stream, data),
        sendAll(stream, data, chunk ?? size).then(() => stream.close({ signal }))
      ])
      return result
    },

    async streams ({ peer, count, size }, signal) {
      const opened = await Promise.all(Array.from({ length: count }, () => open(peer, ECHO, signal)))
      const exchanges = opened.map(async (stream) => {
        const data = randomBytes(size)
        const source = incoming(stream)
        await send(stream, data)
        if (Buffer.compare(await take(source, size), data) !== 0) {
          throw new Error('an echo differs from what was sent')
        }
        return source
      })
      const sources = await Promise.all(exchanges)
      await Promise.all(opened.map((stream) => stream.close({ signal })))
      const resets = await Promise.all(sources.map(endedByReset))
      if (resets.includes(true)) {
        throw new Error('a stream was reset instead of closed')
      }
      return { opened: opened.length }
    },

    async reset ({ peer, code }, signal) {
      const stream = await open(peer, RESET, signal)
      const request = new Uint8Array(4)
      new DataView(request.buffer).setUint32(0, code)
      await send(stream, request)
      return { reset: await endedByReset(incoming(stream)), code: null }
    },

    async send_reset ({ peer }, signal) {
      const stream = await open(peer, AWAIT_RESET, signal)
      await send(stream, new Uint8Array([1]))
      await take(incoming(stream), 1)
      stream.abort(new Error('reset as asked'))
    },

    async last_reset () {
      const end = await ends.get(PATIENCE, 'last_reset')
      return { reset: await within(PATIENCE, 'last_reset', end), code: null }
    },

    async close ({ peer, code }, signal) {
      const connections = node.getConnections(peerIdFromString(peer))
      connections.forEach((connection) => closedHere.add(connection))
      // yamux takes `reason` for its go-away frame, mplex has none and pays it no heed.
      await Promise.all(connections.map((connection) => connection.close({ reason: code, signal })))
    },

    async last_close () {
      return { code: await closes.pop(PATIENCE, 'last_close') }
    },

    async stats () {
      const { user, system } = process.cpuUsage()
      return {
        rss_kib: Math.round(process.memoryUsage.rss() / 1024),
        cpu_seconds: (user + system) / 1e6,
        connections: node.getConnections().length
      }
    }
  }
}
