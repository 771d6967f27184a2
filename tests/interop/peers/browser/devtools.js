// A headless Chromium of one's own, steered through its DevTools protocol over a pipe: no port, and it ends with us.

import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const FLAGS = [
  '--headless',
  '--remote-debugging-pipe',
  '--disable-background-networking', // nothing but our pages uses the network
  '--disable-component-update',
  '--disable-dev-shm-usage', // containers have little of it
  '--disable-gpu',
  '--no-default-browser-check',
  '--no-first-run'
]
const END = '\0' // of each message

export class Browser {
  #calls = new Map()
  #events = new Map()
  #last = 0
  #partial = ''
  #process
  #profile

  /** Starts it with a profile of its own, which goes with it. */
  static async launch (path, flags) {
    const browser = new Browser()
    browser.#profile = await mkdtemp(join(tmpdir(), 'chromium-'))
    const sandbox = process.getuid?.() === 0 ? ['--no-sandbox'] : [] // Chromium has none for root
    browser.#process = spawn(path, [...FLAGS, ...sandbox, `--user-data-dir=${browser.#profile}`, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe']
    })
    browser.#listen()
    return browser
  }

  #listen () {
    const [, , stderr, into, from] = this.#process.stdio
    let said = ''
    stderr.setEncoding('utf8').on('data', (text) => { said = (said + text).slice(-2_000) })
    const ended = (why) => {
      this.#calls.forEach(({ reject }) => reject(new Error(`the browser ended: ${why}\n${said}`)))
      this.#calls.clear()
    }
    into.on('error', () => {}) // told when it ends
    this.#process.on('error', (err) => ended(err.message))
    this.#process.on('exit', (code, signal) => ended(code ?? signal))
    from.setEncoding('utf8').on('data', (text) => {
      const messages = (this.#partial + text).split(END)
      this.#partial = messages.pop()
      messages.forEach((message) => this.#take(JSON.parse(message)))
    })
  }

  #take ({ id, result, error, method, params, sessionId }) {
    if (id == null) {
      this.#events.get(`${method} ${sessionId}`)?.(params)
      return
    }
    const call = this.#calls.get(id)
    this.#calls.delete(id)
    error == null ? call.resolve(result) : call.reject(new Error(error.message))
  }

  /** Calls `handler` with the parameters of each such event of a page. */
  on (method, sessionId, handler) {
    this.#events.set(`${method} ${sessionId}`, handler)
  }

  call (method, params = {}, sessionId = undefined) {
    return new Promise((resolve, reject) => {
      const id = ++this.#last
      this.#calls.set(id, { resolve, reject })
      this.#process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + END)
    })
  }

  /** Opens a page and waits until it is loaded. */
  async open (url) {
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true })
    await this.call('Page.enable', {}, sessionId)
    await this.call('Page.setLifecycleEventsEnabled', { enabled: true }, sessionId)
    const loaded = this.#loaded(sessionId)
    const { loaderId, errorText } = await this.call('Page.navigate', { url }, sessionId)
    if (errorText != null) {
      throw new Error(`${url}: ${errorText}`)
    }
    await loaded(loaderId)
    return new Page(this, sessionId)
  }

  /** Notes what is loaded from now on; gives a function that waits for one of it. */
  #loaded (session) {
    const done = new Set()
    let wake = () => {}
    this.on('Page.lifecycleEvent', session, ({ name, loaderId }) => {
      if (name === 'load') {
        done.add(loaderId)
        wake()
      }
    })
    return async (loaderId) => {
      while (!done.has(loaderId)) {
        await new Promise((resolve) => { wake = resolve })
      }
    }
  }

  /** Ends it; nothing of it is left. */
  async close () {
    const gone = this.#process.exitCode == null && new Promise((resolve) => this.#process.once('exit', resolve))
    this.call('Browser.close').catch(() => {})
    const impatience = setTimeout(() => this.#process.kill('SIGKILL'), 3_000)
    await gone
    clearTimeout(impatience)
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 })
  }
}

class Page {
  #browser
  #session

  constructor (browser, session) {
    this.#browser = browser
    this.#session = session
  }

  /** What an expression, or the promise it gives, comes to; its error is thrown. */
  async evaluate (expression) {
    const asked = { expression, awaitPromise: true, returnByValue: true }
    const { result, exceptionDetails } = await this.#browser.call('Runtime.evaluate', asked, this.#session)
    if (exceptionDetails != null) {
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
    }
    return result.value
  }
}
