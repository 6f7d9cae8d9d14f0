import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GiB } from '../base/units.ts'
import { diagnose, type HostFacts, hasDefaultRoute } from './doctor.ts'

const healthy: HostFacts = {
  node: '26.10.0',
  pinnedNode: '26.10.0',
  architecture: 'x64',
  cores: 4,
  availableMemoryBytes: 8 * GiB,
  cacheFolder: { path: '/cache', freeBytes: 20 * GiB },
  stateFolder: { path: '/state', freeBytes: 20 * GiB },
  programs: {
    'apt-get': '/usr/bin/apt-get',
    'dpkg-deb': '/usr/bin/dpkg-deb',
    passt: '/usr/bin/passt',
    mke2fs: '/usr/sbin/mke2fs',
    debugfs: '/usr/sbin/debugfs',
  },
  hasKeyring: true,
  hasDefaultRoute: true,
  mayMakeUserNamespace: true,
  maxMapCount: 65_530,
  obstacleToTaps: undefined,
}

/** What is not ok, as `verdict name`. */
const complaints = (facts: HostFacts): string[] =>
  diagnose(facts)
    .filter(({ verdict }) => verdict !== 'ok')
    .map(({ verdict, name }) => `${verdict} ${name}`)

test('a healthy host gets ok on every line, and no advice', () => {
  assert.deepEqual(complaints(healthy), [])
  assert.ok(diagnose(healthy).every(({ advice }) => advice === undefined))
})

test('each thing that is missing makes its own finding, with what to do', () => {
  const noPrograms = {
    'apt-get': undefined,
    'dpkg-deb': undefined,
    passt: undefined,
    mke2fs: undefined,
    debugfs: undefined,
  }
  const cases: [Partial<HostFacts>, string[]][] = [
    [{ node: '24.0.0' }, ['problem node']],
    [{ architecture: 's390x' }, ['warning architecture']],
    [{ cores: 1 }, ['warning cores']],
    [{ availableMemoryBytes: 0.5 * GiB }, ['problem memory']],
    [{ cacheFolder: { path: '/cache', freeBytes: 1000 } }, ['problem cache']],
    [{ stateFolder: { path: '/state', freeBytes: 1000 } }, ['problem state']],
    [{ programs: noPrograms }, ['problem apt', 'problem mke2fs', 'problem debugfs', 'problem passt']],
    [{ hasKeyring: false }, ['problem keyring']],
    [{ hasDefaultRoute: false }, ['problem route']],
    [{ mayMakeUserNamespace: false }, ['problem user namespaces']],
    [{ maxMapCount: 1000 }, ['warning vm.max_map_count']],
    [{ obstacleToTaps: 'no /dev/net/tun: modprobe tun' }, ['warning TAP']],
  ]
  for (const [change, expected] of cases) {
    const facts = { ...healthy, ...change }
    assert.deepEqual(complaints(facts), expected)
    for (const { verdict, advice } of diagnose(facts)) assert.equal(verdict !== 'ok', advice !== undefined)
  }
})

test('a tool that apt can fetch is no problem, and says that it will be', () => {
  const facts = { ...healthy, programs: { ...healthy.programs, passt: undefined } }
  assert.deepEqual(complaints(facts), [])
  assert.match(diagnose(facts).find(({ name }) => name === 'passt')!.detail, /fetched/)
})

test("a default route is one to everywhere, of IPv4 or IPv6, and not the kernel's reject route", () => {
  const header = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n'
  const local = 'eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n'
  const everywhere = 'eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n'
  const zeros = '0'.repeat(32)
  const route6 = (device: string) =>
    `${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200     ${device}\n`
  assert.equal(hasDefaultRoute(header + local, ''), false)
  assert.equal(hasDefaultRoute(header + local + everywhere, ''), true)
  assert.equal(hasDefaultRoute('', route6('lo')), false)
  assert.equal(hasDefaultRoute('', route6('eth0')), true)
})
