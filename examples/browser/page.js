// js-libp2p in a page: dials a node over WebSocket, pings it, and puts a value into its DHT.

import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const say = (line) => { document.querySelector('pre').textContent += `${line}\n` }
const bytes = (text) => new TextEncoder().encode(text)

const makeNode = () => createLibp2p({
  transports: [webSockets()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false }, // else no loopback, and no ws without TLS
  services: {
    identify: identify(),
    ping: ping({ maxOutboundStreams: 2 }), // ours, and the DHT's of whom it meets
    dht: kadDHT({
      protocol: '/p2pstack/kad/1.0.0',
      clientMode: true, // nobody can dial a page
      peerInfoMapper: passthroughMapper, // else no loopback
      validators: { v: () => {} },
      selectors: { v: () => 0 }
    })
  }
})

async function greet (address) {
  const node = await makeNode()
  try {
    say(`this page is ${node.peerId}`)
    const { remotePeer } = await node.dial(multiaddr(address))
    say(`connected to ${remotePeer}, ${await node.services.ping.ping(remotePeer)} ms away`)
    await node.contentRouting.put(bytes('/v/greeting'), bytes(`hello from ${node.peerId}`))
    const value = await node.contentRouting.get(bytes('/v/greeting'))
    say(`/v/greeting is now: ${new TextDecoder().decode(value)}`)
  } finally {
    await node.stop()
  }
}

document.querySelector('form').addEventListener('submit', (event) => {
  event.preventDefault()
  greet(event.target.address.value).catch((fault) => say(`it failed: ${fault.message}`))
})
