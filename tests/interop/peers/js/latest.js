// The latest of something that happens now and then, for commands that wait a while for it.

export class Latest {
  #value
  #known = false
  #wake = () => {}

  push (value) {
    this.#value = value
    this.#known = true
    this.#wake()
  }

  /** The latest value, waited for when there is none yet; throws after `milliseconds`. */
  async get (milliseconds, what) {
    if (!this.#known) {
      await within(milliseconds, what, new Promise((resolve) => { this.#wake = resolve }))
    }
    return this.#value
  }

  /** As `get`, but reports each value once. */
  async pop (milliseconds, what) {
    const value = await this.get(milliseconds, what)
    this.#known = false
    return value
  }
}

/** The promise's outcome, or an error after `milliseconds`. */
export async function within (milliseconds, what, promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${milliseconds / 1000} s`)), milliseconds)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
