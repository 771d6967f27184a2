// What the sources shared with the js peer need of `node:crypto`.

const AT_ONCE = 65_536 // bytes: Web Crypto gives no more in one call

export function randomBytes (size) {
  const bytes = new Uint8Array(size)
  for (let offset = 0; offset < size; offset += AT_ONCE) {
    crypto.getRandomValues(bytes.subarray(offset, offset + AT_ONCE))
  }
  return bytes
}
