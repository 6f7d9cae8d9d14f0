/**
 * The 64-bit hash behind digests and output checksums: XXH64 (xxhash-wasm, ~3 GB/s). It finds accidents, not forgeries.
 *
 * xxhash-wasm offers its instance through a promise only; it is awaited once, here, while the module loads, so that
 * callers stay synchronous.
 */

import xxhash from 'xxhash-wasm'

const { h64Raw } = await xxhash()

/** XXH64 of `bytes`; `seed` chains several pieces into one digest. */
export function hash64(bytes: Uint8Array, seed = 0n): bigint {
  return h64Raw(bytes, seed)
}

/** A digest as people and JSON see it: 16 hexadecimal digits. */
export function formatDigest(digest: bigint): string {
  return digest.toString(16).padStart(16, '0')
}
