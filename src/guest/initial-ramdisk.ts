/**
 * The guest's initial RAM disk: busybox, the modules that reach the disk and the network, and a script that mounts the
 * root disk and hands over to its init.
 *
 * The idea: Debian's kernel has virtio-mmio, virtio-blk and ext4 as modules, so something must load them before there is
 * a disk. That is all this does; it stays small because the guest pays for each instruction of it.
 *
 * It does not look for disks by label, check file systems, or know anything but ext4. Kernel arguments:
 * `root=/dev/vda`, `ro` to mount it read-only, and `disks=scsi` if there are disks on a SCSI bus. Without `root=` it gives a shell on the console.
 */

import { type CpioEntry, writeCpio } from './cpio-writer.ts'
import type { GuestFlavour } from './guest-manifest.ts'

/** Disk, network, entropy, power button. */
const everybody = [
  'virtio_mmio',
  'virtio_blk',
  'virtio_net',
  'virtio-rng',
  'crc32c_generic',
  'ext4',
  'virtio_input',
  'evdev',
] as const

/** Modules in the order of wishing; what they need comes with them. ext4 asks for crc32c by an alias, so it is named. */
export const modulesOfFlavour: Readonly<Record<GuestFlavour, readonly string[]>> = {
  minimal: everybody,
  // systemd mounts automount points; its DHCP client and many a server open packet sockets.
  systemd: [...everybody, 'autofs4', 'af_packet'],
}

/** For disks on a SCSI bus. Loaded only if the kernel's command line says `disks=scsi`. */
export const scsiModules = ['virtio_scsi', 'sd_mod'] as const

export const initScript = (modules: readonly string[], onScsi: readonly string[]): string => `#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t devtmpfs dev /dev
ROOT= MODE=rw MODULES='${modules.join(' ')}'
read -r line </proc/cmdline
for word in $line; do
  case $word in
    root=*) ROOT=\${word#root=} ;;
    ro) MODE=ro ;;
    disks=scsi) MODULES='${[...modules, ...onScsi].join(' ')}' ;;
  esac
done
for module in $MODULES; do
  $B insmod /modules/$module.ko || echo "initrd: module $module cannot be loaded"
done
if [ -n "$ROOT" ]; then
  tries=0
  until [ -b "$ROOT" ] || [ $tries -ge 200 ]; do
    $B sleep 0.05
    tries=$((tries + 1))
  done
  if $B mount -t ext4 -o $MODE "$ROOT" /root; then
    $B mount --move /dev /root/dev
    $B umount /proc
    exec $B switch_root /root /sbin/init
  fi
  echo "initrd: no root file system on $ROOT"
fi
exec $B setsid $B cttyhack $B sh
`

type RamdiskModule = readonly [name: string, content: Uint8Array]

const nameOf = ([name]: RamdiskModule): string => name

/** The archive, uncompressed: the guest would pay for unpacking it. */
export function buildInitialRamdisk(
  busybox: Uint8Array,
  modules: readonly RamdiskModule[],
  onScsi: readonly RamdiskModule[],
): Uint8Array {
  const folders = ['bin', 'dev', 'modules', 'proc', 'root'].map((path): CpioEntry => ({ kind: 'folder', path }))
  return writeCpio([
    ...folders,
    { kind: 'file', path: 'bin/busybox', content: busybox, mode: 0o755 },
    // The kernel opens this before any of our code runs.
    { kind: 'character-device', path: 'dev/console', major: 5, minor: 1 },
    ...[...modules, ...onScsi].map(
      ([name, content]): CpioEntry => ({ kind: 'file', path: `modules/${name}.ko`, content }),
    ),
    {
      kind: 'file',
      path: 'init',
      content: new TextEncoder().encode(initScript(modules.map(nameOf), onScsi.map(nameOf))),
      mode: 0o755,
    },
  ])
}
