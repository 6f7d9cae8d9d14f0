/**
 * The secret that a machine's replicas, disk server and switch share beside the key: it says for which machine a peer
 * speaks. On one host `up` makes it at random; hosts that share a key file all make the same one of it.
 */

import { hkdfSync } from 'node:crypto'
import type { SharedKey } from '../net/shared-key.ts'

const tokenBytes = 24

/** URL-safe text. It tells nothing about the key, nor about another machine's token. */
export function tokenOfKey({ secret }: SharedKey, machine: string): string {
  const token = hkdfSync('sha256', secret, new Uint8Array(), `understudy machine token: ${machine}`, tokenBytes)
  return Buffer.from(token).toString('base64url')
}
