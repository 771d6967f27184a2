// Node's `Buffer`, for the sources that are shared with the js peer.

export { Buffer } from 'buffer'
