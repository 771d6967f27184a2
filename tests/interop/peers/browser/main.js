// js-libp2p in a page of a real Chromium as an interop peer: what comes in on standard input is done in the page.

import { createHash, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { Browser } from './devtools.js'
import pkg from './package.json' with { type: 'json' }
import { parseOptions, UsageError } from './shared/options.js'

const write = (message) => process.stdout.write(`${JSON.stringify(message)}\n`)

/** Takes an option that only this peer has out of the command line. */
function takeOption (argv, name) {
  const at = argv.indexOf(name)
  return at === -1 ? undefined : argv.splice(at, 2)[1]
}

/** What the options of every peer come to here. */
function pageOptions (argv) {
  const options = parseOptions(argv)
  const refused = [
    [options.listen.length > 0, '--listen: a page cannot listen'],
    [options.security !== 'noise', '--security: a page has noise only'],
    [options.muxer !== 'yamux', '--muxer: only yamux'],
    [options.dht === 'server', '--dht server: nobody can dial a page'],
    [options.nodes !== 1, '--nodes: a page has one']
  ]
  for (const [wrong, why] of refused) {
    if (wrong) {
      throw new UsageError(why)
    }
  }
  return options
}

/** Serves the page on loopback, as a developer of one does: browsers keep Web Crypto from pages out of nowhere. */
async function servePage () {
  const script = await readFile(new URL('bundle.js', import.meta.url))
  const server = createServer((request, response) => {
    const [type, body] = request.url === '/'
      ? ['text/html', '<!doctype html><meta charset="utf-8"><title>peer</title><script src="bundle.js"></script>']
      : ['text/javascript', script]
    response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(body)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { server, url: `http://127.0.0.1:${server.address().port}/` }
}

/** Opens another page, and tells what a script in it comes to. */
async function visit (browser, { url, script }) {
  const page = await browser.open(url)
  return { value: await page.evaluate(script) }
}

/** What has Chromium believe a certificate, which it knows by its key. */
async function trustFlags (file) {
  if (file === '') {
    return []
  }
  const { publicKey } = new X509Certificate(await readFile(file))
  const digest = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
  return [`--ignore-certificate-errors-spki-list=${digest}`]
}

async function answer (browser, page, line) {
  let id = null
  try {
    const request = JSON.parse(line)
    id = request.id
    const result = request.cmd === 'visit' ? visit(browser, request) : page.evaluate(`peer.run(${line})`)
    write({ id, ok: true, result: await result })
  } catch (err) {
    write({ id, ok: false, error: String(err?.message || err).split('\n', 1)[0] })
  }
}

async function main () {
  const argv = process.argv.slice(2)
  const path = takeOption(argv, '--browser')
  const options = pageOptions(argv)

  const { server, url } = await servePage()
  const browser = await Browser.launch(path, await trustFlags(options['web-trust']))
  try {
    const page = await browser.open(url)
    const { product } = await browser.call('Browser.getVersion')
    const made = await page.evaluate(`peer.start(${JSON.stringify(options)})`)
    const implementation = `js-libp2p v${pkg.dependencies.libp2p} in Chromium`
    made.commands.push('visit')
    write({ ready: true, ...made, implementation, version: product.split('/')[1] })
    for await (const line of createInterface({ input: process.stdin })) {
      if (line.trim() !== '') {
        void answer(browser, page, line)
      }
    }
  } finally {
    await browser.close()
    server.close()
    server.closeAllConnections()
  }
}

main().then(() => process.exit(0), (err) => {
  console.error(err.message)
  process.exit(err instanceof UsageError ? 2 : 1)
})
