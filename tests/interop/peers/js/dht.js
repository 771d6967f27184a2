// The commands on the DHT.

import { publicKeyToProtobuf } from '@libp2p/crypto/keys'
import { MessageType } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { Libp2pRecord } from '@libp2p/record'
import { createIPNSRecord, marshalIPNSRecord } from 'ipns'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

const RAW = 0x55 // codec of a CID made from a bare multihash

const IPNS_LIFETIME = 3_600_000 // ms

const info = ({ id, multiaddrs }) => ({ id: id.toString(), addrs: multiaddrs.map(String) })

/** The text's bytes; after `/pk/` and `/ipns/` comes a peer id, which stands for its bytes. */
function recordKey (key) {
  const namespace = ['/pk/', '/ipns/'].find((each) => key.startsWith(each))
  if (namespace == null) {
    return Buffer.from(key)
  }
  return Buffer.concat([Buffer.from(namespace), peerIdFromString(key.slice(namespace.length)).toMultihash().bytes])
}

function contentId (key) {
  return /^([0-9a-f]{2})+$/i.test(key) ? CID.createV1(RAW, Digest.decode(Buffer.from(key, 'hex'))) : CID.parse(key)
}

/** Runs a query that writes; fails unless at least one peer took it. */
async function written (events, messageName) {
  let taken = 0
  for await (const event of events) {
    if (event.name === 'PEER_RESPONSE' && event.messageName === messageName) {
      taken++
    } else if (event.name === 'QUERY_ERROR' && event.error.name === 'QueryError') {
      taken-- // answered, yet with another record than the one put
    }
  }
  if (taken <= 0) {
    throw new Error('no peer took it')
  }
}

export function dhtCommands ({ node, privateKey }) {
  const dht = node.services.dht
  if (dht == null) {
    return {}
  }

  /** One request to one peer; its answer as an event. */
  async function ask (peer, request, signal) {
    const path = { index: -1, queued: 0, running: 0, total: 0 }
    for await (const event of dht.network.sendRequest(peerIdFromString(peer), request, { signal, path })) {
      if (event.name === 'QUERY_ERROR') {
        throw event.error
      }
      if (event.name === 'PEER_RESPONSE') {
        return event
      }
    }
    throw new Error('no answer')
  }

  return {
    async find_node ({ peer, target }, signal) {
      const request = { type: MessageType.FIND_NODE, key: peerIdFromString(target).toMultihash().bytes }
      const { closer } = await ask(peer, request, signal)
      return { closer: closer.map(info) }
    },

    async put_at ({ peer, key, value }, signal) {
      const record = new Libp2pRecord(recordKey(key), Buffer.from(value, 'base64'), new Date())
      const request = { type: MessageType.PUT_VALUE, key: record.key, record: record.serialize() }
      const answer = await ask(peer, request, signal)
      if (answer.record == null || Buffer.compare(answer.record.value, record.value) !== 0) {
        throw new Error('refused')
      }
    },

    async get_at ({ peer, key }, signal) {
      const { record } = await ask(peer, { type: MessageType.GET_VALUE, key: recordKey(key) }, signal)
      return { value: record == null ? null : Buffer.from(record.value).toString('base64') }
    },

    async ipns_record ({ value, sequence }) {
      const target = Buffer.from(value, 'base64').toString()
      const record = await createIPNSRecord(privateKey, target, sequence, IPNS_LIFETIME)
      return { key: `/ipns/${node.peerId}`, value: Buffer.from(marshalIPNSRecord(record)).toString('base64') }
    },

    async public_key () {
      const encoded = Buffer.from(publicKeyToProtobuf(privateKey.publicKey))
      return { key: `/pk/${node.peerId}`, value: encoded.toString('base64') }
    },

    async find_peer ({ target }, signal) {
      for await (const event of dht.findPeer(peerIdFromString(target), { useCache: false, signal })) {
        if (event.name === 'FINAL_PEER') {
          return info(event.peer)
        }
      }
      throw new Error('not found')
    },

    async bootstrap (_, signal) {
      for (const connection of node.getConnections()) {
        const { protocols } = await node.services.identify.identify(connection, { signal })
        if (protocols.includes(dht.protocol)) {
          await dht.routingTable.add(connection.remotePeer, { signal })
        }
      }
      // Not `refreshRoutingTable`: it returns before its queries are done.
      for await (const _ of dht.getClosestPeers(node.peerId.toMultihash().bytes, { signal }));
    },

    async put ({ key, value }, signal) {
      await written(dht.put(recordKey(key), Buffer.from(value, 'base64'), { signal }), 'PUT_VALUE')
    },

    async get ({ key }, signal) {
      let value
      for await (const event of dht.get(recordKey(key), { signal })) {
        if (event.name === 'VALUE') {
          value = event.value
        }
      }
      if (value == null) {
        throw new Error('no such value')
      }
      return { value: Buffer.from(value).toString('base64') }
    },

    async provide ({ key }, signal) {
      await written(dht.provide(contentId(key), { signal }), 'ADD_PROVIDER')
    },

    async find_providers ({ key }, signal) {
      const providers = new Map()
      for await (const event of dht.findProviders(contentId(key), { signal })) {
        if (event.name === 'PROVIDER') {
          event.providers.forEach((provider) => providers.set(provider.id.toString(), info(provider)))
        }
      }
      return { providers: [...providers.values()] }
    }
  }
}
