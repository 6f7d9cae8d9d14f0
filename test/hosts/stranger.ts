/**
 * Somebody on the network with a key, but not the machine's: tries the logging channel, and prints what it is told.
 *
 *   node test/hosts/stranger.ts HOST PORT KEYFILE
 */

import { WorldError } from '../../src/base/assert.ts'
import { connectToPrimary } from '../../src/host/logging-channel.ts'
import { readKeyFile } from '../../src/net/shared-key.ts'

const [host = '', port = '', keyFile = ''] = process.argv.slice(2)
const deaf = { onMessage: () => {}, onBadMessage: () => {}, onClosed: () => {} }
try {
  await connectToPrimary({ address: { host, port: Number(port) }, key: readKeyFile(keyFile) }, deaf)
  console.log('let in')
} catch (error) {
  if (!(error instanceof WorldError)) throw error
  console.log(`${error.code}: ${error.message}`)
}
process.exit(0)
