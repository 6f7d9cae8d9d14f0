/**
 * A guest whose second disk is nbdkit's memory: a disk that loses everything when its process is killed. One boot: the disk
 * fails and the guest sees it; disk server and nbdkit are killed and nothing is lost; the same with the primary killed, too.
 */

import assert from 'node:assert/strict'
import { appendFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { foreignServer, nbdkit, needs } from '../../src/disk/foreign-server.test-support.ts'
import { pairStatus } from '../../src/host/local-pair.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'
import { launcher, understudy } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'
import { ConsoleProcess } from './console-process.ts'

const folder = ownFolder('foreign')

test(
  'a foreign disk that fails is an error in the guest, and one that forgets is not noticed',
  needs('nbdkit'),
  async (t) => {
    const [socket, trigger] = [join(folder, 'nbd'), join(folder, 'fail')]
    const disk = ['--filter=error', 'memory', '16M', 'error-rate=100%', `error-file=${trigger}`]
    const server = await foreignServer(t, socket, '', nbdkit(socket, ...disk))
    const name = `foreign-${process.pid}`
    const vm = await writeRedisVm(folder, name, await freePort())
    appendFileSync(vm, `\n[[disks]]\nnbd = "${server.uri}"\n`)
    const state = new VmFolder(name)
    let console: ConsoleProcess | undefined
    try {
      understudy('up', vm)
      console = new ConsoleProcess(launcher, ['console', vm])
      const guest = console
      /** Runs a command of the guest's shell; returns what it printed. */
      const run = async (command: string): Promise<string> => {
        guest.type(`${command}; echo "end"=$?`)
        const [, text] = await guest.shows(/\r\n([\s\S]*?)end=\d+\r\n/)
        return text!
      }
      const write = (part: string, block: number): Promise<string> =>
        run(
          `dd if=/dev/urandom of=/tmp/${part} bs=64k count=8 2>/dev/null; ` +
            `dd if=/tmp/${part} of=/dev/vdb bs=64k seek=${block} oflag=direct 2>&1; md5sum < /tmp/${part}`,
        )
      const read = (block: number): Promise<string> =>
        run(`dd if=/dev/vdb bs=64k skip=${block} count=8 iflag=direct 2>/dev/null | md5sum`)
      const sumIn = (text: string): string => /[0-9a-f]{32}/.exec(text)?.[0] ?? assert.fail(`no checksum in: ${text}`)
      /**
       * Everything that holds the disk's bytes, apart from the replicas, is gone and comes back empty. A disk server that was
       * just killed may still be there for a moment: `repair` waits for its end.
       */
      const forget = async (): Promise<void> => {
        process.kill(state.readRun()!.diskServerPid, 'SIGKILL')
        await server.kill()
        await server.startAgain()
      }
      await guest.shows(/GUEST-READY/)

      const first = sumIn(await write('first', 0))
      writeFileSync(trigger, '')
      assert.match(await run('dd if=/dev/zero of=/dev/vdb bs=4k seek=1000 count=1 oflag=direct 2>&1'), /I\/O error/)
      rmSync(trigger)
      assert.equal(sumIn(await read(0)), first)

      await forget()
      understudy('repair', vm)
      assert.equal(sumIn(await read(0)), first)
      const second = sumIn(await write('second', 16))
      await sleep(1500)
      const { protection, replicas } = await pairStatus(vm)
      assert.equal(protection, 'protected')
      assert.deepEqual(
        replicas.map(({ divergences }) => divergences),
        [0, 0],
      )

      understudy('fail', 'primary', vm)
      await forget()
      understudy('repair', vm)
      assert.equal(sumIn(await read(0)), first)
      assert.equal(sumIn(await read(16)), second)
      assert.match(understudy('logs', vm), /a new boot of the server; \d+ unflushed changes are written again/)
    } finally {
      await console?.end()
      understudy('down', vm)
    }
  },
)
