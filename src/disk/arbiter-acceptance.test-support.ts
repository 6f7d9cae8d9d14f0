/**
 * What every arbiter must do, whoever it is: each implementation runs these tests. They know nothing of sockets, files or
 * leases; what is special about an implementation is tested beside it.
 *
 * Nothing here waits for a time to pass. Where an arbiter awaits a dead holder for a moment, the question is asked again
 * until it is answered otherwise.
 */

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ArbiterAccess, ArbiterAccessOptions } from './arbiter-access.ts'
import type { StartAnswer } from './arbiter-record.ts'

/** One machine's arbiter, fresh for a test. */
export interface ArbiterUnderTest {
  /** A replica's access. Ended by itself after the test. */
  readonly access: (replica: string, options?: Partial<ArbiterAccessOptions>) => ArbiterAccess
  /** The replica's process dies: its session ends without a word. */
  readonly crash: (access: ArbiterAccess) => void
  /** The arbiter's own process, or one of them, dies and is there again. Accesses from before may need another question. */
  readonly restart: () => Promise<void>
}

/** Long enough for a loaded computer. */
const timeoutMs = 20_000
const askAgainMs = 20

/** Asks to start the machine until the holder that is gone is not awaited any more. */
async function startWhenFree(access: ArbiterAccess): Promise<StartAnswer> {
  for (;;) {
    const answer = await access.start(timeoutMs, true)
    if (answer.granted) return answer
    await sleep(askAgainMs)
  }
}

/** Replica a holds the machine in generation 1, and `backups` may take it over. */
async function heldByA({ access }: ArbiterUnderTest, backups: readonly string[]): Promise<ArbiterAccess> {
  const holder = access('a')
  assert.deepEqual(await holder.start(timeoutMs), { granted: true, generation: 1 })
  assert.deepEqual(await holder.setEligible(1, backups, timeoutMs), { accepted: true, generation: 1 })
  return holder
}

/** @param name of the implementation, as test titles say it */
export function acceptArbiter(name: string, prepare: (t: TestContext) => Promise<ArbiterUnderTest>): void {
  const rule = (title: string, body: (arbiter: ArbiterUnderTest, t: TestContext) => Promise<void>): void => {
    test(`${name}: ${title}`, async (t) => await body(await prepare(t), t))
  }

  rule('a machine that was never started is in generation 0, and held by nobody', async ({ access }) => {
    const { record } = await access('a').connect(timeoutMs)
    assert.deepEqual(record, {
      machine: record.machine,
      generation: 0,
      holder: null,
      heldSince: 0,
      takenBy: 'nobody',
      eligible: [],
      spent: [],
    })
    assert.equal((await access('b').testAndSet(0, timeoutMs)).won, false)
  })

  rule('a start takes the next generation, and everybody reads it', async ({ access }) => {
    const holder = access('a')
    assert.deepEqual(await holder.start(timeoutMs), { granted: true, generation: 1 })
    assert.equal(holder.heldGeneration, 1)
    const { generation, holder: named, takenBy } = await access('b').read(timeoutMs)
    assert.deepEqual({ generation, named, takenBy }, { generation: 1, named: 'a', takenBy: 'start' })
  })

  rule('a start is refused while the holder lives, also one that was cut off and came back', async (arbiter) => {
    const holder = await heldByA(arbiter, ['b'])
    const other = arbiter.access('b')
    assert.equal((await other.start(timeoutMs)).granted, false)
    arbiter.crash(holder)
    const back = arbiter.access('a', { generation: 1 })
    await back.connect(timeoutMs)
    for (let asked = 0; asked < 20; asked++) {
      const answer = await other.start(timeoutMs, true)
      assert.equal(answer.granted, false)
      assert.equal(answer.generation, 1)
    }
    assert.deepEqual(await back.openGeneration(1, ['b'], timeoutMs), { accepted: true, generation: 2 })
  })

  rule('of a holder that lives a start learns that it does', async (arbiter) => {
    await heldByA(arbiter, ['b'])
    const other = arbiter.access('b')
    for (;;) {
      const answer = await other.start(timeoutMs)
      assert.ok(!answer.granted)
      assert.equal(answer.holder, 'a')
      if (answer.reason === 'holder-connected') return
      await sleep(askAgainMs)
    }
  })

  rule('the machine of a holder that died can be started again, in the next generation', async (arbiter) => {
    const holder = await heldByA(arbiter, ['b'])
    arbiter.crash(holder)
    assert.deepEqual(await startWhenFree(arbiter.access('a')), { granted: true, generation: 2 })
    assert.deepEqual((await arbiter.access('b').read(timeoutMs)).eligible, [])
  })

  rule('after a release the machine can be started at once, and no backup may take it', async (arbiter) => {
    const holder = await heldByA(arbiter, ['b'])
    assert.deepEqual(await holder.release(1, timeoutMs), { accepted: true, generation: 1 })
    assert.equal(holder.heldGeneration, undefined)
    assert.deepEqual(await holder.release(1, timeoutMs), { accepted: true, generation: 1 }, 'asked again')
    const other = arbiter.access('b')
    assert.deepEqual(await other.testAndSet(1, timeoutMs), {
      won: false,
      generation: 1,
      holder: null,
      isEligible: false,
    })
    assert.deepEqual(await other.start(timeoutMs), { granted: true, generation: 2 })
  })

  rule('only an eligible replica may test-and-set, and only the present generation', async (arbiter) => {
    await heldByA(arbiter, ['b'])
    const lost = { won: false, generation: 1, holder: 'a', isEligible: false }
    assert.deepEqual(await arbiter.access('x').testAndSet(1, timeoutMs), lost)
    assert.deepEqual(await arbiter.access('a').testAndSet(1, timeoutMs), lost)
    const backup = arbiter.access('b')
    assert.deepEqual(await backup.testAndSet(0, timeoutMs), lost, 'of a hold before this one')
    // It is told that it may ask for the present one.
    assert.deepEqual(await backup.testAndSet(2, timeoutMs), { ...lost, isEligible: true })
    assert.deepEqual(await backup.testAndSet(1, timeoutMs), { won: true, generation: 2 })
    assert.equal(backup.heldGeneration, 2)
  })

  rule(
    'whoever was eligible beside the winner is so until the winner has named backups of its own',
    async (arbiter) => {
      await heldByA(arbiter, ['b', 'c', 'd'])
      const [b, c, d] = [arbiter.access('b'), arbiter.access('c'), arbiter.access('d')]
      assert.deepEqual(await b.testAndSet(1, timeoutMs), { won: true, generation: 2 })
      const lost = { won: false, generation: 2, holder: 'b', isEligible: false }
      assert.deepEqual(await c.testAndSet(1, timeoutMs), lost, 'it must not ask again while the winner may live')
      assert.deepEqual(
        await c.testAndSet(2, timeoutMs),
        { won: true, generation: 3 },
        'an heir, when the winner is lost, too',
      )
      assert.deepEqual(await c.openGeneration(3, [], timeoutMs), { accepted: true, generation: 4 })
      assert.equal((await d.testAndSet(3, timeoutMs)).won, false)
      assert.equal((await d.testAndSet(4, timeoutMs)).won, false)
    },
  )

  rule('a test-and-set does not wait for a holder that lives', async (arbiter) => {
    const told: unknown[] = []
    const holder = await heldByA(arbiter, ['b'])
    const back = arbiter.access('a', { generation: 1, onFenced: (notice) => told.push(notice) })
    await back.connect(timeoutMs)
    assert.deepEqual(await arbiter.access('b').testAndSet(1, timeoutMs), { won: true, generation: 2 })
    while (told.length === 0) await sleep(askAgainMs)
    assert.deepEqual(told, [{ generation: 2, holder: 'b' }])
    assert.equal(back.heldGeneration, undefined)
    assert.equal((await holder.openGeneration(1, ['b'], timeoutMs)).accepted, false)
  })

  rule('a holder that comes back too late is told that its hold is over', async (arbiter) => {
    const holder = await heldByA(arbiter, ['b'])
    arbiter.crash(holder)
    await arbiter.access('b').testAndSet(1, timeoutMs)
    const told = Promise.withResolvers<unknown>()
    const woken = arbiter.access('a', { generation: 1, onFenced: told.resolve })
    await woken.connect(timeoutMs)
    assert.deepEqual(await told.promise, { generation: 2, holder: 'b' })
  })

  rule('many ask for one generation at the same time: one wins, again and again', async (arbiter) => {
    const names = ['b', 'c', 'd', 'e']
    let holder = await heldByA(arbiter, names)
    for (let generation = 1; generation <= 9; generation += 2) {
      const backups = names.map((name) => arbiter.access(name))
      const answers = await Promise.all(backups.map((backup) => backup.testAndSet(generation, timeoutMs)))
      assert.equal(answers.filter(({ won }) => won).length, 1, `generation ${generation}`)
      assert.ok(answers.every((answer) => answer.generation === generation + 1))
      holder = backups[answers.findIndex(({ won }) => won)]!
      assert.ok((await holder.openGeneration(generation + 1, names, timeoutMs)).accepted)
    }
  })

  rule('holder and backup ask at the same moment: exactly one of them goes on', async (arbiter) => {
    let holder = await heldByA(arbiter, ['b'])
    let generation = 1
    const wins = { holder: 0, backup: 0 }
    for (let round = 0; round < 10; round++) {
      const backup = arbiter.access(`b${round}`)
      await backup.connect(timeoutMs)
      const opened = await holder.openGeneration(generation, [`b${round}`], timeoutMs)
      assert.ok(opened.accepted)
      generation = opened.generation
      const [went, won] = await Promise.all([
        holder.openGeneration(generation, [], timeoutMs),
        backup.testAndSet(generation, timeoutMs),
      ])
      assert.notEqual(went.accepted, won.won, `round ${round}: ${JSON.stringify({ went, won })}`)
      generation++
      wins[went.accepted ? 'holder' : 'backup']++
      if (won.won) holder = backup
    }
    assert.equal(wins.holder + wins.backup, 10)
  })

  rule('a winner that lost its answer asks again and is answered the same', async (arbiter) => {
    await heldByA(arbiter, ['b', 'c'])
    const first = await arbiter.access('b').testAndSet(1, timeoutMs)
    assert.deepEqual(first, { won: true, generation: 2 })
    const again = arbiter.access('b')
    assert.deepEqual(await again.testAndSet(1, timeoutMs), first)
    assert.deepEqual(await again.openGeneration(2, ['c'], timeoutMs), { accepted: true, generation: 3 })
    assert.deepEqual(await arbiter.access('b').openGeneration(2, ['c'], timeoutMs), { accepted: true, generation: 3 })
    assert.equal((await arbiter.access('c').testAndSet(1, timeoutMs)).won, false)
  })

  rule('only the holder opens the next generation, and names who may take it over', async (arbiter) => {
    const holder = await heldByA(arbiter, ['b'])
    const refusal = { accepted: false, reason: 'not-holder', generation: 1, holder: 'a' }
    assert.deepEqual(await arbiter.access('b').openGeneration(1, ['b'], timeoutMs), refusal)
    assert.deepEqual(await holder.openGeneration(0, ['b'], timeoutMs), refusal)
    assert.deepEqual(await holder.openGeneration(1, ['c'], timeoutMs), { accepted: true, generation: 2 })
    assert.equal(holder.heldGeneration, 2)
    assert.equal((await arbiter.access('b').testAndSet(2, timeoutMs)).won, false)
    assert.equal((await arbiter.access('c').testAndSet(1, timeoutMs)).won, false)
    assert.equal((await arbiter.access('c').testAndSet(2, timeoutMs)).won, true)
  })

  rule('a replica that was dropped, or asked and lost, needs a new generation', async (arbiter) => {
    const holder = await heldByA(arbiter, ['b'])
    await holder.setEligible(1, [], timeoutMs)
    await arbiter.access('c').testAndSet(1, timeoutMs)
    for (const spent of ['b', 'c']) {
      const refusal = { accepted: false, reason: 'spent', generation: 1, holder: 'a' }
      assert.deepEqual(await holder.setEligible(1, [spent], timeoutMs), refusal)
    }
    assert.ok((await holder.openGeneration(1, ['b'], timeoutMs)).accepted)
    assert.equal((await arbiter.access('b').testAndSet(2, timeoutMs)).won, true)
  })

  rule('what was answered is still so after the arbiter itself died', async (arbiter) => {
    const holder = await heldByA(arbiter, ['b', 'c'])
    await arbiter.restart()
    const backup = arbiter.access('b')
    assert.deepEqual(await backup.testAndSet(1, timeoutMs), { won: true, generation: 2 })
    await arbiter.restart()
    assert.deepEqual(await arbiter.access('b').testAndSet(1, timeoutMs), { won: true, generation: 2 })
    const { generation, holder: named } = await arbiter.access('c').read(timeoutMs)
    assert.deepEqual({ generation, named }, { generation: 2, named: 'b' })
    arbiter.crash(holder)
  })

  rule('a session that ends changes nothing by itself', async (arbiter) => {
    const holder = await heldByA(arbiter, ['b'])
    const other = arbiter.access('b')
    const before = await other.read(timeoutMs)
    arbiter.crash(holder)
    assert.deepEqual(await other.read(timeoutMs), before)
    assert.deepEqual(await other.testAndSet(1, timeoutMs), { won: true, generation: 2 })
  })
}
