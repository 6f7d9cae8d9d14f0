/** The whole build over a small mirror of our own (test-repository.ts): real packages, no network. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { MiB } from '../base/units.ts'
import { findProgram } from './command.ts'
import { buildGuest, copyRootDisk, type GuestOptions } from './guest-builder.ts'
import type { GuestProgress } from './guest-progress.ts'
import { TestRepository } from './test-repository.ts'

let repository: TestRepository
let folder: string

beforeEach(() => {
  repository = new TestRepository()
  repository.addGuestPackages()
  folder = mkdtempSync(join(tmpdir(), 'understudy-guest-'))
})

afterEach(() => {
  repository.remove()
  rmSync(folder, { recursive: true, force: true })
})

function build(changes: Partial<GuestOptions> = {}, onProgress: (progress: GuestProgress) => void = () => {}) {
  return buildGuest(
    { outputFolder: join(folder, 'out'), cacheFolder: join(folder, 'cache'), rootSizeBytes: 16 * MiB, ...changes },
    onProgress,
  )
}

function refused(code: string, pattern: RegExp = /./) {
  return (error: unknown) => {
    assert.ok(error instanceof WorldError, String(error))
    assert.equal(error.code, code)
    assert.match(error.message, pattern)
    assert.doesNotMatch(error.message, /\n/, 'an error is one line')
    return true
  }
}

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')
const debugfs = (image: string, command: string) =>
  execFileSync(findProgram('debugfs')!, ['-R', command, image], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })

test('a guest has a kernel, a ramdisk with its modules in load order, and a clean root disk', async () => {
  const image = await build()
  assert.equal(image.kernelVersion, '6.12-riscv64')
  assert.equal(readFileSync(image.kernelPath).toString('latin1', 56, 60), 'RSC\x05')
  const ramdisk = readFileSync(image.initrdPath, 'latin1')
  const order = ['failover', 'virtio_net', 'jbd2', 'ext4'].map((name) => ramdisk.indexOf(`modules/${name}.ko\0`))
  assert.ok(order[0]! > 0 && order[0]! < order[1]! && order[1]! < order[2]! && order[2]! < order[3]!, String(order))
  assert.match(ramdisk, /disks=scsi\) MODULES='[^']* ext4 [^']* virtio_scsi scsi_mod sd_mod'/)
  assert.match(ramdisk, /MODULES='[^']* ext4 (?![^']*scsi)[^']*'/, 'without disks on that bus they cost nothing')
  assert.ok(!ramdisk.includes('crc32c_generic.ko'), 'a module that is built in is not loaded')
  assert.equal(debugfs(image.rootPath, 'cat /usr/bin/redis-server'), 'a server')
  assert.match(debugfs(image.rootPath, 'cat /etc/services.d/0-redis'), /--appendonly yes/)
  assert.match(debugfs(image.rootPath, 'stat /var/lib/redis'), /User: +990 +Group: +990/)
  assert.doesNotMatch(debugfs(image.rootPath, 'ls /usr/share'), /doc/)
  execFileSync(findProgram('e2fsck')!, ['-fn', image.rootPath], { stdio: 'ignore' })
})

test('the manifest names every package and the SHA-256 of every artefact', async () => {
  const { manifest, kernelPath, initrdPath, rootPath } = await build()
  assert.deepEqual(
    manifest.packages.map(({ name }) => name),
    ['linux-image-6.12-riscv64', 'busybox-static', 'redis-server'],
  )
  assert.equal(manifest.artefacts.kernel.sha256, sha256(kernelPath))
  assert.equal(manifest.artefacts.initrd.sha256, sha256(initrdPath))
  assert.equal(manifest.artefacts.root.sha256, sha256(rootPath))
  assert.deepEqual(JSON.parse(readFileSync(join(folder, 'out/manifest.json'), 'utf8')), manifest)
})

test('the same packages make the same bytes in another cache, another folder and another second', async () => {
  const first = await build()
  await new Promise((resolve) => setTimeout(resolve, 1100)) // ext4 keeps whole seconds.
  const second = await build({ outputFolder: join(folder, 'out2'), cacheFolder: join(folder, 'cache2') })
  assert.equal(second.isFromCache, false)
  assert.deepEqual(second.manifest.artefacts, first.manifest.artefacts)
})

test('a second build with the same inputs asks nobody', async () => {
  const first = await build()
  const calls = repository.calls().length
  repository.cutNetwork()
  const second = await build({ outputFolder: join(folder, 'again') })
  assert.equal(second.isFromCache, true)
  assert.equal(repository.calls().length, calls)
  assert.equal(sha256(second.rootPath), sha256(first.rootPath))
})

test('other packages, another size or another key are another guest', async () => {
  await build()
  repository.add('nginx-light', [{ path: 'usr/sbin/nginx', content: 'web' }])
  const changes: Partial<GuestOptions>[] = [
    { packages: ['redis-server', 'nginx-light'] },
    { rootSizeBytes: 20 * MiB },
    { authorizedKeys: ['ssh-ed25519 AAAA me'] },
  ]
  for (const change of changes) assert.equal((await build({ ...change, overwrite: true })).isFromCache, false)
})

test('a damaged artefact in the cache is noticed and built again, without the network', async () => {
  const first = await build()
  repository.cutNetwork()
  const kept = join(folder, 'cache/guests', readdirSync(join(folder, 'cache/guests'))[0]!)
  const damages: (() => void)[] = [
    () => {
      const bytes = readFileSync(join(kept, 'root.ext4.zst'))
      bytes[bytes.length >> 1]! ^= 1
      writeFileSync(join(kept, 'root.ext4.zst'), bytes)
    },
    () => writeFileSync(join(kept, 'Image.zst'), readFileSync(join(kept, 'Image.zst')).subarray(0, 20)),
    () => appendFileSync(join(kept, 'initrd.cpio.zst'), 'more'),
    () => rmSync(join(kept, 'Image.zst')),
    () => writeFileSync(join(kept, 'manifest.json'), '{"version":1'),
  ]
  for (const damage of damages) {
    damage()
    const again = await build({ outputFolder: join(folder, 'again') })
    assert.equal(again.isFromCache, false)
    assert.equal(sha256(again.rootPath), sha256(first.rootPath))
    assert.equal((await build({ outputFolder: join(folder, 'again') })).isFromCache, true)
  }
})

test('a damaged package in the cache is fetched again, and offline it is an error', async () => {
  await build()
  const archives = join(folder, 'cache/apt/trixie-riscv64/archives')
  const path = join(archives, readdirSync(archives).find((name) => name.startsWith('redis-server'))!)
  writeFileSync(path, readFileSync(path).fill(7, 200, 300))
  await assert.rejects(build({ rootSizeBytes: 20 * MiB, offline: true }), refused('not-cached', /redis-server/))
  writeFileSync(path, 'short')
  await build({ rootSizeBytes: 20 * MiB })
})

test('a package that arrives damaged is refused', async () => {
  const bin = join(repository.folder, 'bin/apt-get')
  writeFileSync(bin, readFileSync(bin, 'utf8').replace('cp "$R', 'head -c 400 "$R').replace('.deb" "', '.deb" >"'))
  await assert.rejects(build(), refused('package-damaged', /SHA-256/))
})

test('a root disk that a machine has used is kept unless the user says otherwise', async () => {
  const { rootPath } = await build()
  await build() // Untouched: replaced without a question.
  const disk = readFileSync(rootPath)
  disk[4096] = 1
  writeFileSync(rootPath, disk)
  await assert.rejects(build(), refused('guest-disk-in-use', /root\.ext4/))
  assert.deepEqual(readFileSync(rootPath), disk)
  await build({ overwrite: true })
  assert.notDeepEqual(readFileSync(rootPath), disk)
})

test('a copied root disk has the same bytes and never replaces a file', async () => {
  const image = await build()
  const copy = join(folder, 'vm.ext4')
  await copyRootDisk(image, copy)
  assert.equal(sha256(copy), sha256(image.rootPath))
  await assert.rejects(copyRootDisk(image, copy), refused('file-exists'))
})

test('a cancelled build leaves neither output nor leftovers, wherever it is cancelled', async () => {
  for (const phase of ['resolve', 'download', 'unpack', 'root', 'store', 'copy'] as const) {
    const cancel = new AbortController()
    const cacheFolder = join(folder, `cache-${phase}`)
    const started = build({ cacheFolder, signal: cancel.signal }, (progress) => {
      if (progress.phase === phase) cancel.abort()
    })
    await assert.rejects(started, refused('cancelled'), phase)
    assert.deepEqual(readdirSync(join(folder, 'out')), [], phase)
    const leftovers = readdirSync(cacheFolder).filter((name) => !['apt', 'guests'].includes(name))
    assert.deepEqual(leftovers, [], phase)
  }
})

test('an unknown package is named', async () => {
  await assert.rejects(build({ packages: ['no-such-thing'] }), refused('unknown-package', /"no-such-thing"/))
  await assert.rejects(build({ packages: ['-o', 'Dir=/'] }), refused('unknown-package', /"-o"/))
})

test('without a network the first build says so', async () => {
  repository.cutNetwork()
  await assert.rejects(build(), refused('no-network', /mirror/))
  await assert.rejects(build({ offline: true }), refused('not-cached'))
})

test('an index from last time is enough while the mirror is out of reach', async () => {
  await build()
  repository.cutNetwork()
  const stamp = join(folder, 'cache/apt/trixie-riscv64/index-fetched')
  execFileSync('touch', ['-d', '2020-01-01', stamp])
  await build({ rootSizeBytes: 20 * MiB })
  await assert.rejects(build({ rootSizeBytes: 20 * MiB, refresh: true }), refused('no-network'))
})

test('a root disk that is too small says how large it must be', async () => {
  repository.add('redis-server', [{ path: 'usr/bin/redis-server', content: new Uint8Array(20 * MiB).fill(1) }])
  await assert.rejects(build(), refused('root-too-small', /make it \d+M/))
  await assert.rejects(build({ rootSizeBytes: 1000 }), refused('bad-root-size'))
  await assert.rejects(build({ rootSizeBytes: Number.NaN }), refused('bad-root-size'))
})

test('an output folder that cannot be written is one clear line', async () => {
  writeFileSync(join(folder, 'file'), '')
  await assert.rejects(build({ outputFolder: join(folder, 'file/below') }), refused('file-failed'))
})

test('the lock of a dead build is taken over, and that of a living one is waited for', async () => {
  await build()
  const lock = join(folder, 'cache/lock')
  assert.equal(existsSync(lock), false)
  const gone = Number(execFileSync('sh', ['-c', 'echo $$'], { encoding: 'utf8' }))
  writeFileSync(lock, `${gone}\n`)
  await build({ rootSizeBytes: 20 * MiB })
  writeFileSync(lock, `${process.ppid}\n`)
  let hasWaited = false
  await build({ rootSizeBytes: 24 * MiB }, ({ detail }) => {
    if (!/waiting/.test(detail)) return
    hasWaited = true
    rmSync(lock)
  })
  assert.ok(hasWaited)
})

test('a full Debian has its users, its enabled units and its package records', async () => {
  const { systemdPackages } = await import('./systemd-root.ts')
  for (const name of systemdPackages) repository.add(name, [{ path: `usr/share/${name}/file`, content: name }])
  repository.add('base-passwd', [
    {
      path: 'usr/share/base-passwd/passwd.master',
      content: 'root:*:0:0:root:/root:/bin/bash\nwww-data:*:33:33:w:/var/www:/bin/false\n',
    },
    { path: 'usr/share/base-passwd/group.master', content: 'root:*:0:\nshadow:*:42:\nwww-data:*:33:\n' },
  ])
  repository.add('redis-server', [
    { path: 'usr/bin/redis-server', content: 'a server', mode: 0o755 },
    {
      path: 'usr/lib/systemd/system/redis-server.service',
      content: '[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\nAlias=redis.service\n',
    },
  ])
  const { rootPath } = await build({ flavour: 'systemd', rootSizeBytes: 32 * MiB })
  assert.match(debugfs(rootPath, 'cat /etc/passwd'), /^root:x:0:0:[^\n]*\nwww-data:x:33:33:[^\n]*\nredis:x:990:990:/)
  assert.match(debugfs(rootPath, 'cat /etc/shadow'), /^root::\d+:[^\n]*\nwww-data:\*:/)
  assert.match(debugfs(rootPath, 'stat /etc/shadow'), /Mode: +0640[\s\S]*Group: +42/)
  const wants = debugfs(rootPath, 'stat /etc/systemd/system/multi-user.target.wants/redis-server.service')
  assert.match(wants, /Fast link dest: "\/usr\/lib\/systemd\/system\/redis-server\.service"/)
  assert.match(debugfs(rootPath, 'ls /etc/systemd/system'), /redis\.service/)
  assert.match(debugfs(rootPath, 'cat /var/lib/dpkg/status'), /Package: redis-server\nStatus: install ok installed\n/)
  assert.match(debugfs(rootPath, 'cat /var/lib/dpkg/info/redis-server.list'), /^\/usr\/bin\/redis-server$/m)
  assert.equal(debugfs(rootPath, 'cat /etc/machine-id'), '')
})
