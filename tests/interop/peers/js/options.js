// The command line of the peer, as CONTRACT.md lays it down.

const CHOICES = {
  'key-type': ['ed25519', 'secp256k1', 'rsa'], // js-libp2p has no peer ids of ecdsa keys
  security: ['noise', 'tls'],
  muxer: ['yamux', 'mplex'],
  dht: ['off', 'server', 'client']
}

export const KEY_TYPES = CHOICES['key-type']

export class UsageError extends Error {}

export function parseOptions (argv) {
  const options = {
    listen: [],
    'key-type': 'ed25519',
    security: 'noise',
    muxer: 'yamux',
    dht: 'off',
    'dht-prefix': '/p2pstack',
    'web-cert': '', // PEM file with chain and key, to listen on wss
    'web-trust': '', // PEM file with the certificates trusted on wss
    nodes: 1
  }

  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i].replace(/^--/, '')
    const value = argv[i + 1]

    if (!argv[i].startsWith('--') || !(name in options)) {
      throw new UsageError(`unknown option ${argv[i]}`)
    }
    if (value === undefined) {
      throw new UsageError(`--${name} needs a value`)
    }
    if (name in CHOICES && !CHOICES[name].includes(value)) {
      throw new UsageError(`--${name} ${value} is not supported, only ${CHOICES[name].join(', ')}`)
    }
    if (name === 'nodes' && !/^[1-9]\d*$/.test(value)) {
      throw new UsageError('--nodes must be a positive number')
    }
    if (name === 'listen') {
      options.listen.push(value)
    } else {
      options[name] = value
    }
  }

  return options
}
