// The test protocols this peer serves.

import { endedByReset, incoming, send, StreamReset, take } from './streams.js'

export const ECHO = '/echo/1.0.0'
export const SINK = '/sink/1.0.0'
export const RESET = '/reset/1.0.0'
export const AWAIT_RESET = '/await-reset/1.0.0'

export const MAX_STREAMS = 65_536

async function echo (stream) {
  for await (const chunk of incoming(stream)) {
    await send(stream, chunk)
  }
  await stream.close()
}

async function sink (stream) {
  let count = 0
  for await (const chunk of incoming(stream)) {
    count += chunk.byteLength
  }
  const answer = new Uint8Array(8)
  new DataView(answer.buffer).setBigUint64(0, BigInt(count))
  await send(stream, answer)
  await stream.close()
}

async function reset (stream) {
  await take(incoming(stream), 4)
  // js-libp2p has no reset codes: the four bytes say when, not with what.
  stream.abort(new Error('reset as asked'))
}

function awaitReset (ends) {
  return async (stream) => {
    const end = (async () => {
      const source = incoming(stream)
      await send(stream, await take(source, 1))
      return endedByReset(source)
    })()
    ends.push(end)
    await end
    await stream.close()
  }
}

/** Registers the protocols; `ends` is told of each /await-reset stream, as a promise of whether it was reset. */
export async function serve (node, ends) {
  const handlers = { [ECHO]: echo, [SINK]: sink, [RESET]: reset, [AWAIT_RESET]: awaitReset(ends) }

  for (const [protocol, handler] of Object.entries(handlers)) {
    const guarded = (stream) => handler(stream).catch((err) => {
      if (!(err instanceof StreamReset)) {
        console.error(`${protocol}: ${err.message}`)
      }
      stream.abort(err)
    })
    await node.handle(protocol, guarded, { maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS })
  }
}
