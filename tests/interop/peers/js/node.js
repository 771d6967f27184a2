// The libp2p node: every limit that would hinder a test on loopback is lifted here.

import { readFileSync } from 'node:fs'
import { setDefaultCACertificates } from 'node:tls'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { mplex } from '@libp2p/mplex'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { ipnsSelector } from 'ipns/selector'
import { ipnsValidator } from 'ipns/validator'
import { createLibp2p } from 'libp2p'
import { MAX_STREAMS } from './handlers.js'

// Native code, which not every platform has: there the peer goes without.
const { quic } = await import('@chainsafe/libp2p-quic').catch(() => ({}))

const MAX_CONNECTIONS = 65_536

const KEY_TYPES = { ed25519: 'Ed25519', secp256k1: 'secp256k1', rsa: 'RSA' }

const SECURITY = { noise, tls }

const MUXERS = {
  yamux: () => yamux({
    maxInboundStreams: MAX_STREAMS,
    maxOutboundStreams: MAX_STREAMS,
    maxEarlyStreams: MAX_STREAMS
  }),
  mplex: () => mplex({
    maxInboundStreams: MAX_STREAMS,
    maxOutboundStreams: MAX_STREAMS,
    maxUnprocessedMessageQueueSize: 64 * 1024 * 1024,
    disconnectThreshold: Infinity
  })
}

// In `v` the last writer wins: any value is valid, the first of several is taken. The library itself knows `pk`.
const namespaces = {
  validators: { v: () => {}, ipns: ipnsValidator },
  selectors: { v: () => 0, ipns: ipnsSelector }
}

/** WebSocket, with the certificates of wss that were given. */
function overWeb (options) {
  if (options['web-trust'] !== '') {
    setDefaultCACertificates([readFileSync(options['web-trust'], 'utf8')]) // the library leaves no other way
  }
  if (options['web-cert'] === '') {
    return webSockets()
  }
  const pem = readFileSync(options['web-cert'])
  return webSockets({ https: { cert: pem, key: pem } })
}

export async function createNode (options) {
  const services = {
    identify: identify({ maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS }),
    identifyPush: identifyPush({ maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS }),
    ping: ping({ maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS })
  }

  if (options.dht !== 'off') {
    services.dht = kadDHT({
      ...namespaces,
      protocol: `${options['dht-prefix']}/kad/1.0.0`,
      clientMode: options.dht === 'client',
      peerInfoMapper: passthroughMapper, // the default one drops loopback addresses
      allowQueryWithZeroPeers: true,
      maxInboundStreams: MAX_STREAMS,
      maxOutboundStreams: MAX_STREAMS
    })
  }

  const privateKey = await generateKeyPair(KEY_TYPES[options['key-type']])
  const node = await createLibp2p({
    privateKey,
    addresses: { listen: options.listen },
    transports: [tcp(), overWeb(options), ...(quic == null ? [] : [quic({ maxConcurrentStreamLimit: MAX_STREAMS })])],
    connectionEncrypters: [SECURITY[options.security]()],
    streamMuxers: [MUXERS[options.muxer]()],
    connectionManager: {
      maxConnections: MAX_CONNECTIONS,
      maxIncomingPendingConnections: MAX_CONNECTIONS,
      inboundConnectionThreshold: MAX_CONNECTIONS, // per second and host
      reconnectRetries: 0 // a closed connection stays closed
    },
    // Its pings share the event loop with the load and would cut busy connections.
    connectionMonitor: { enabled: false },
    services
  })
  return { node, privateKey }
}
