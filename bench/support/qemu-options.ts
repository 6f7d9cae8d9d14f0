/** How QEMU is told to be the machine that we are: the same kernel, initrd, disk, kernel arguments and RAM. */

import { MiB } from '../../src/base/units.ts'
import { bootArguments, rootImagePath, type VmConfig } from '../../src/host/vm-config.ts'

/** One instruction is one nanosecond of guest time, and waiting costs no host time: QEMU's deterministic mode. */
export const icountOptions: readonly string[] = ['-icount', 'shift=0,sleep=off']

/** The `virt` machine with its own firmware, and its user network in front of the guest. */
export function linuxOptions(config: VmConfig): string[] {
  const forward = config.forwards[0]
  const forwarding = forward ? `,hostfwd=tcp:127.0.0.1:${forward.hostPort}-:${forward.guestPort}` : ''
  return [
    ...['-nographic', '-no-reboot', '-M', 'virt', '-smp', '1', '-m', `${config.memory / MiB}`],
    ...['-kernel', config.kernel, '-initrd', config.initrd!, '-append', bootArguments(config)],
    ...['-drive', `file=${rootImagePath(config)!},if=none,id=root,format=raw`],
    ...['-device', 'virtio-blk-device,drive=root'],
    ...['-netdev', `user,id=lan${forwarding}`],
    ...['-device', `virtio-net-device,netdev=lan,mac=${config.network!.mac}`],
    ...['-device', 'virtio-rng-device'],
  ]
}

/** A bare program in M mode, its console on standard output. */
export function bareOptions(path: string): string[] {
  return ['-nographic', '-no-reboot', '-M', 'virt', '-m', '128', '-bios', 'none', '-kernel', path]
}
