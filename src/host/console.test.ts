/** Two replicas' console ports and real viewers on unix sockets; no machine. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConsoleBacklog } from './console-backlog.ts'
import { toLine, type Wish } from './console-messages.ts'
import { ConsolePort } from './console-port.ts'
import { ConsoleViewer, type ViewerEnd } from './console-viewer.ts'
import { VmFolder } from './vm-folder.ts'

const stateFolder = mkdtempSync(join(tmpdir(), 'understudy-console-'))
const openPorts: ConsolePort[] = []
const openViewers: ConsoleViewer[] = []
after(() => {
  for (const open of [...openViewers, ...openPorts]) open.close()
  rmSync(stateFolder, { recursive: true, force: true })
})

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const output = (sequence: number, text: string) => ({ sequence: BigInt(sequence), bytes: bytes(text) })

/** Generous: only a broken rule waits so long. */
async function becomesTrue(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    assert.ok(tries < 1000, what)
    await sleep(10)
  }
}

class Desk {
  text = ''
  readonly notices: string[] = []
  end: ViewerEnd | undefined
  readonly viewer: ConsoleViewer

  constructor(folder: VmFolder, wish: Wish) {
    this.viewer = new ConsoleViewer(folder, wish, {
      onOutput: (shown) => {
        this.text += Buffer.from(shown).toString()
      },
      onNotice: (text) => this.notices.push(text),
      onEnd: (end) => {
        this.end = end
      },
    })
    openViewers.push(this.viewer)
  }

  async shows(text: string): Promise<void> {
    await becomesTrue(
      `the console shows ${JSON.stringify(text)}, not ${JSON.stringify(this.text)}`,
      () => this.text === text,
    )
  }
}

interface Pair {
  readonly folder: VmFolder
  readonly a: ConsolePort
  readonly b: ConsolePort
  /** What reached the guest, from which replica. */
  readonly keys: string[]
  readonly close: (...desks: Desk[]) => void
}

let pairs = 0

/** `a` is live in generation 1, `b` follows. This process plays both replicas. */
async function startPair(): Promise<Pair> {
  const folder = new VmFolder(`pair-${pairs++}`, stateFolder)
  folder.create()
  const keys: string[] = []
  const port = (name: string): ConsolePort =>
    new ConsolePort({ onKeys: (pressed) => keys.push(`${name}:${Buffer.from(pressed).toString()}`) })
  const a = port('a')
  const b = port('b')
  openPorts.push(a, b)
  await a.listen(folder.consolePath('a'))
  await b.listen(folder.consolePath('b'))
  const replica = { pid: process.pid }
  folder.writeRun({
    vmPath: '',
    diskServerPid: 0,
    lanPid: 0,
    monitorPid: 0,
    replicas: { a: replica, b: replica },
    former: [],
    wantsBackup: false,
  })
  a.onLive(1)
  const close = (...desks: Desk[]): void => {
    for (const { viewer } of desks) viewer.close()
    a.close()
    b.close()
  }
  return { folder, a, b, keys, close }
}

test('a viewer that joins late sees the recent output first, and then what comes', async () => {
  const { folder, a, close } = await startPair()
  a.onReleased(output(3, 'booting '))
  a.onReleased(output(7, 'ready '))
  const desk = new Desk(folder, 'write')
  await desk.shows('booting ready ')
  a.onReleased(output(9, 'now'))
  await desk.shows('booting ready now')
  close(desk)
})

test('after a failover a viewer is attached to the survivor: nothing is missing, nothing comes twice', async () => {
  const { folder, a, b, keys, close } = await startPair()
  const desk = new Desk(folder, 'write')
  const release = (sequence: number, text: string): void => {
    a.onReleased(output(sequence, text))
    b.onRegenerated(output(sequence, text))
  }
  release(1, 'one ')
  await desk.shows('one ')
  b.onRegenerated(output(4, 'two '))
  b.onRegenerated(output(5, 'three '))
  a.close()
  await becomesTrue('the viewer notices', () => desk.notices.some((text) => text.includes('successor')))
  desk.viewer.sendKeys(bytes('typed meanwhile'))
  b.onLive(2)
  b.onReleased(output(4, 'two '))
  b.onReleased(output(5, 'three '))
  b.onReleased(output(8, 'four'))
  await desk.shows('one two three four')
  await becomesTrue('the keys arrive', () => keys.length > 0)
  assert.deepEqual(keys, ['b:typed meanwhile'])
  close(desk)
})

test('a frozen primary that thaws is heard no more', async () => {
  const { folder, a, b, keys, close } = await startPair()
  const desk = new Desk(folder, 'write')
  a.onReleased(output(1, 'one '))
  b.onRegenerated(output(1, 'one '))
  await desk.shows('one ')
  b.onLive(2)
  b.onReleased(output(2, 'two '))
  await desk.shows('one two ')
  a.onReleased(output(2, 'STALE'))
  a.close()
  desk.viewer.sendKeys(bytes('x'))
  await becomesTrue('the key arrives', () => keys.length > 0)
  assert.deepEqual(keys, ['b:x'])
  assert.equal(desk.text, 'one two ')
  close(desk)
})

test('a backup shows nothing of what its machine prints before it is live', async () => {
  const { folder, a, b, close } = await startPair()
  a.close()
  const desk = new Desk(folder, 'write')
  b.onRegenerated(output(1, 'secret'))
  await sleep(300)
  assert.equal(desk.text, '')
  b.onLive(2)
  await desk.shows('secret')
  close(desk)
})

test('one viewer writes; when it leaves the next one does; --take takes the keyboard', async () => {
  const { folder, a, keys, close } = await startPair()
  a.onReleased(output(1, '.'))
  const first = new Desk(folder, 'write')
  await first.shows('.')
  const second = new Desk(folder, 'write')
  const watcher = new Desk(folder, 'watch')
  await second.shows('.')
  await watcher.shows('.')
  assert.deepEqual(
    [first, second, watcher].map(({ viewer }) => viewer.isWriter),
    [true, false, false],
  )
  for (const desk of [watcher, second, first]) desk.viewer.sendKeys(bytes('k'))
  await becomesTrue('one key arrives', () => keys.length > 0)
  assert.deepEqual(keys, ['a:k'])
  first.viewer.close()
  await becomesTrue('the second writes', () => second.viewer.isWriter)
  const third = new Desk(folder, 'take')
  await becomesTrue('the third took it', () => third.viewer.isWriter && !second.viewer.isWriter)
  assert.equal(watcher.viewer.isWriter, false)
  close(second, third, watcher)
})

test('keys of one who is not the writer, and lines that are no message, reach nobody', async () => {
  const { folder, a, keys, close } = await startPair()
  a.onReleased(output(1, '.'))
  const desk = new Desk(folder, 'write')
  await desk.shows('.')
  const stranger = createConnection(folder.consolePath('a')).resume()
  let isClosed = false
  stranger.on('close', () => {
    isClosed = true
  })
  stranger.write(toLine({ kind: 'keys', base64: 'eA==' }))
  stranger.write(toLine({ kind: 'attach', wish: 'watch' }))
  stranger.write(toLine({ kind: 'keys', base64: 'eA==' }))
  stranger.write('{"kind":"keys"}\n')
  await becomesTrue('the stranger is shown out', () => isClosed)
  desk.viewer.sendKeys(bytes('k'))
  await becomesTrue('the key arrives', () => keys.length > 0)
  assert.deepEqual(keys, ['a:k'])
  close(desk)
})

test("a question to the terminal reaches the writer's only, and never out of the backlog", async () => {
  const { folder, a, close } = await startPair()
  a.onReleased(output(1, 'old\x1b[6n'))
  const writer = new Desk(folder, 'write')
  await writer.shows('old')
  const watcher = new Desk(folder, 'write')
  await watcher.shows('old')
  a.onReleased(output(2, '$ \x1b[6n'))
  await writer.shows('old$ \x1b[6n')
  await watcher.shows('old$ ')
  close(writer, watcher)
})

test('when the guest switches itself off every viewer learns it and ends', async () => {
  const { folder, a, close } = await startPair()
  const desk = new Desk(folder, 'watch')
  a.onReleased(output(1, 'Power down'))
  await desk.shows('Power down')
  a.onOff(true)
  await becomesTrue('it ends', () => desk.end !== undefined)
  assert.deepEqual(desk.end, { kind: 'off', failed: true })
  close(desk)
})

test('when no replica is left a viewer ends', async () => {
  const { folder, close } = await startPair()
  close()
  folder.clearRun()
  const desk = new Desk(folder, 'watch')
  await becomesTrue('it ends', () => desk.end !== undefined)
  assert.deepEqual(desk.end, { kind: 'gone' })
})

test('the backlog is bounded, and says when something in between is gone', () => {
  const backlog = new ConsoleBacklog(10)
  for (let sequence = 0; sequence < 5; sequence++) backlog.add(output(sequence, 'four'))
  assert.deepEqual(
    backlog.since(undefined).outputs.map(({ sequence }) => sequence),
    [3n, 4n],
  )
  assert.equal(backlog.since(2n).isComplete, true)
  assert.equal(backlog.since(1n).isComplete, false)
  assert.equal(backlog.add(output(4, 'again')), false)
  assert.deepEqual(
    backlog.since(3n).outputs.map(({ sequence }) => sequence),
    [4n],
  )
})
