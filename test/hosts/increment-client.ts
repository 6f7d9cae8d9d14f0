/**
 * A client on a host of its own: waits for Redis, then one TCP connection, INCR after INCR. Prints how many were answered ten times a
 * second; a line on stdin makes it print its report and end.
 *
 *   node test/hosts/increment-client.ts HOST PORT KEY
 */

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { answersPing, IncrementLoad } from '../../src/host/redis-load.ts'

const [host = '', port = '', key = ''] = process.argv.slice(2)
while (!(await answersPing(Number(port), 2000, host))) await sleep(100)
const load = await IncrementLoad.start(Number(port), key, host)
setInterval(() => console.log(JSON.stringify({ acknowledged: load.acknowledged })), 100).unref()
await once(process.stdin, 'data')
console.log(JSON.stringify(await load.stop(20_000)))
process.exit(0)
