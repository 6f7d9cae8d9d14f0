/**
 * A Debian mirror for tests: real packages made by dpkg-deb, a few kilobytes each, and programs named apt-get, apt-cache
 * and apt-config that serve them. The builder's own code runs unchanged; only the network is missing.
 */

import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

const aptGet = `#!/bin/sh
R="$(dirname "$0")/.."
echo "apt-get $*" >>"$R/calls"
if [ -e "$R/no-network" ]; then
  case "$*" in *update*|*download*) echo "E: Failed to fetch http://mirror.invalid/x  Temporary failure resolving 'mirror.invalid'" >&2; exit 100 ;; esac
fi
verb=
for word; do
  case $word in
    update|install|download|indextargets) verb=$word; continue ;;
    -*|APT::*|Created-By*|*REPO_URI*) continue ;;
  esac
  case $verb in
    install)
      [ "$word" = linux-image-riscv64 ] && word=linux-image-6.12-riscv64
      [ -e "$R/packages/$word.deb" ] || { echo "E: Unable to locate package $word" >&2; exit 100; }
      echo "Inst $word (1:2.0 Debian:13/stable [riscv64])" ;;
    download)
      name=\${word%%=*}
      cp "$R/packages/$name.deb" "\${name}_1%3a2.0_riscv64.deb"
      echo "dlstatus:1:50.0:Retrieving" >&3 ;;
  esac
done
[ "$verb" = indextargets ] && echo "http://mirror.invalid/debian|bookworm|main"
exit 0
`

const aptCache = `#!/bin/sh
R="$(dirname "$0")/.."
for word; do
  case $word in show|-*) continue ;; esac
  name=\${word%%=*}
  file="$R/packages/$name.deb"
  sum=$(sha256sum <"$file")
  printf 'Package: %s\\nVersion: 1:2.0\\nArchitecture: riscv64\\nSize: %s\\nSHA256: %s\\n\\n' "$name" "$(wc -c <"$file")" "\${sum%% *}"
done
`

export interface TestFile {
  readonly path: string
  readonly content: string | Uint8Array
  readonly mode?: number
}

export class TestRepository {
  readonly folder = mkdtempSync(join(tmpdir(), 'understudy-repository-'))
  readonly #path = process.env.PATH ?? ''

  constructor() {
    for (const [name, text] of [
      ['apt-get', aptGet],
      ['apt-cache', aptCache],
      ['apt-config', '#!/bin/sh\n'],
    ] as const) {
      mkdirSync(join(this.folder, 'bin'), { recursive: true })
      writeFileSync(join(this.folder, 'bin', name), text)
      chmodSync(join(this.folder, 'bin', name), 0o755)
    }
    mkdirSync(join(this.folder, 'packages'))
    process.env.PATH = `${join(this.folder, 'bin')}:${this.#path}`
  }

  add(name: string, files: readonly TestFile[]): string {
    const root = join(this.folder, 'root')
    rmSync(root, { recursive: true, force: true })
    mkdirSync(join(root, 'DEBIAN'), { recursive: true })
    const control = `Package: ${name}\nVersion: 1:2.0\nArchitecture: riscv64\nMaintainer: nobody <nobody@localhost>\nDescription: test\n`
    writeFileSync(join(root, 'DEBIAN/control'), control)
    for (const { path, content, mode } of files) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), content)
      chmodSync(join(root, path), mode ?? 0o644)
    }
    const deb = join(this.folder, 'packages', `${name}.deb`)
    execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '--build', root, deb], { stdio: 'ignore' })
    return deb
  }

  /** What a guest needs at least: a kernel with its modules, busybox, and one server. */
  addGuestPackages(): void {
    const image = new Uint8Array(4096)
    image.set([0x52, 0x53, 0x43, 0x05], 56)
    const module = (name: string, depends: string) => ({
      path: `usr/lib/modules/6.12-riscv64/kernel/drivers/${name}.ko`,
      content: `\x7fELF\0license=GPL\0depends=${depends}\0name=${name}\0`,
    })
    this.add('linux-image-6.12-riscv64', [
      { path: 'boot/vmlinux-6.12-riscv64', content: image },
      {
        path: 'usr/lib/modules/6.12-riscv64/modules.builtin',
        content: 'kernel/crypto/crc32c_generic.ko\nkernel/net/packet/af-packet.ko\n',
      },
      ...[
        'virtio_mmio',
        'virtio_blk',
        'virtio-rng',
        'virtio_input',
        'evdev',
        'jbd2',
        'failover',
        'autofs4',
        'virtio_scsi',
        'scsi_mod',
      ].map((name) => module(name, '')),
      module('virtio_net', 'failover'),
      module('ext4', 'jbd2'),
      module('sd_mod', 'scsi_mod'),
    ])
    const commands = ['[', '[[', ...Array.from({ length: 120 }, (_, index) => `c${String(index).padStart(3, '0')}`)]
    this.add('busybox-static', [
      { path: 'usr/bin/busybox', content: `\x7fELF and so on${commands.join('\0')}\0\0`, mode: 0o755 },
    ])
    this.add('redis-server', [
      { path: 'usr/bin/redis-server', content: 'a server', mode: 0o755 },
      { path: 'usr/share/doc/redis/README', content: 'for people' },
    ])
  }

  /** From now on fetching fails as on a machine without a network. */
  cutNetwork(): void {
    writeFileSync(join(this.folder, 'no-network'), '')
  }

  /** Calls of apt-get so far, one a line. */
  calls(): string[] {
    const path = join(this.folder, 'calls')
    return existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : []
  }

  remove(): void {
    process.env.PATH = this.#path
    rmSync(this.folder, { recursive: true, force: true })
  }
}
