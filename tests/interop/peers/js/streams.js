// Reading and writing js-libp2p streams, which emit events, as plain loops.

export class StreamReset extends Error {}

const broken = (stream) => stream.status === 'reset' || stream.status === 'aborted'

/**
 * Yields what comes in and returns at the end of input; throws StreamReset when the stream was reset.
 *
 * The stream's own iterator waits for an event that has already passed if the remote closed its side before the
 * iteration began, hence this one on 'end', whose having passed can be asked for.
 */
export async function * incoming (stream) {
  const queue = []
  let ended = false
  let wake = () => {}
  const onMessage = (event) => { queue.push(event.data); wake() }
  const onEnd = () => { ended = true; wake() }

  stream.addEventListener('message', onMessage)
  stream.addEventListener('end', onEnd)
  stream.addEventListener('close', onEnd)

  try {
    for (;;) {
      if (queue.length > 0) {
        yield queue.shift()
      } else if (ended || stream.readableEnded || broken(stream)) {
        break
      } else {
        await new Promise((resolve) => { wake = resolve })
      }
    }
  } finally {
    stream.removeEventListener('message', onMessage)
    stream.removeEventListener('end', onEnd)
    stream.removeEventListener('close', onEnd)
  }

  if (broken(stream)) {
    throw new StreamReset('the stream was reset')
  }
}

/** Reads on to the end of input and tells whether it was a reset. */
export async function endedByReset (source) {
  try {
    for await (const _ of source);
    return false
  } catch (err) {
    if (err instanceof StreamReset) {
      return true
    }
    throw err
  }
}

/** Takes exactly `size` bytes off the front of the source, a little more may be read and dropped. */
export async function take (source, size) {
  const chunks = []
  let length = 0

  while (length < size) {
    const { value, done } = await source.next()
    if (done) {
      throw new Error(`the stream ended after ${length} of ${size} bytes`)
    }
    chunks.push(value.subarray())
    length += value.byteLength
  }

  return Buffer.concat(chunks).subarray(0, size)
}

/** Sends one chunk and waits until the stream takes more. */
export async function send (stream, data) {
  if (!stream.send(data)) {
    await stream.onDrain()
  }
}
