/**
 * The small guest: busybox as init and shell, the wanted packages, nothing else. It serves after about two seconds of
 * guest time, so it is the default.
 *
 * Kernel arguments it reads: `ip4=ADDRESS/BITS`, `gw4=ADDRESS`, `dns4=ADDRESS`, and the servers' own (services.ts). It
 * prints `GUEST-READY <uptime in seconds>` on the console once every server answers. `/sbin/poweroff` and
 * `/sbin/reboot` stop the servers and unmount the disk first, and so does the power button. The console is a root shell
 * on ttyS0.
 *
 * It does not have users to log in as, a package manager, or a clock service.
 */

import { WorldError } from '../base/assert.ts'
import type { FileTree } from './file-tree.ts'
import { servicesIn, setUpServices } from './services.ts'

/** What a package brings for people, not for programs. */
export function isDispensable(path: string): boolean {
  return /^usr\/share\/(doc|man|locale|info|lintian|bug|doc-base)(\/|$)/.test(path)
}

const inittab = `::sysinit:/etc/rc.start
ttyS0::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/rc.stop
`

const startScript = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
[ -e /dev/console ] || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs shm /dev/shm
mount -o remount,rw /
hostname -F /etc/hostname
ip link set lo up
IP= GATEWAY=
for word in $(cat /proc/cmdline); do
  case $word in
    ip4=*) IP=\${word#*=} ;;
    gw4=*) GATEWAY=\${word#*=} ;;
    dns4=*) echo "nameserver \${word#*=}" >/etc/resolv.conf ;;
  esac
done
if [ -n "$IP" ]; then
  ip link set eth0 up
  ip addr add "$IP" dev eth0
  [ -n "$GATEWAY" ] && ip route add default via "$GATEWAY"
fi
# It knows the power button by itself, and finds what to do below /etc/acpi.
[ -e /dev/input/event0 ] && acpid
for service in /etc/services.d/*; do
  [ -x "$service" ] && "$service" start
done
for service in /etc/services.d/*; do
  [ -x "$service" ] || continue
  tries=0
  until "$service" ready; do
    tries=$((tries + 1))
    [ $tries -ge 600 ] && echo "GUEST-FAILED \${service##*/}" && break
    sleep 0.05
  done
done
echo "GUEST-READY $(cut -d' ' -f1 /proc/uptime)"
`

const stopScript = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin
for service in /etc/services.d/*; do
  [ -x "$service" ] && "$service" stop
done
# -1 is everyone but init and this shell.
kill -TERM -1
sleep 0.2
kill -KILL -1
sync
umount -a -r 2>/dev/null
echo GUEST-STOPPED
`

const serviceScript = (body: string) => `#!/bin/sh
export PATH=/usr/sbin:/usr/bin
case $1 in
${body}
esac
`

/** The commands that this busybox can do, from the table inside its program file: names in order, NUL behind each. */
export function busyboxCommands(busybox: Uint8Array): string[] {
  const bytes = Buffer.from(busybox.buffer, busybox.byteOffset, busybox.byteLength)
  const start = bytes.indexOf('[\0[[\0', 0, 'latin1')
  const names: string[] = []
  for (let offset = start; start >= 0; ) {
    const end = bytes.indexOf(0, offset)
    const name = bytes.toString('latin1', offset, end)
    if (!/^[a-z0-9[][a-z0-9._[-]*$/.test(name) || name <= (names.at(-1) ?? '')) break
    names.push(name)
    offset = end + 1
  }
  if (names.length < 100) throw new WorldError('package-damaged', "busybox's table of commands is not where it was")
  return names
}

/** Adds everything that the packages do not bring. Call it after the packages' files are in the tree. */
export function addMinimalSystem(tree: FileTree, busybox: Uint8Array, authorizedKeys: readonly string[]): void {
  for (const folder of ['dev', 'etc/services.d', 'mnt', 'proc', 'run', 'sys', 'var/log']) tree.addFolder(folder)
  tree.addFolder('root', 0o700)
  tree.addFolder('tmp', 0o1777)
  tree.addFolder('var/tmp', 0o1777)
  for (const [link, target] of [
    ['var/run', '/run'],
    ['var/lock', '/run'],
  ] as const) {
    tree.remove(link)
    tree.addSymlink(link, target)
  }
  tree.addFile('usr/bin/busybox', busybox, 0o755)
  for (const command of busyboxCommands(busybox)) {
    const isPresent = tree.has(`usr/bin/${command}`) || tree.has(`usr/sbin/${command}`)
    if (!isPresent) tree.addSymlink(`usr/bin/${command}`, 'busybox')
  }
  // These must be busybox's, whatever a package brings: they belong to its init.
  for (const command of ['init', 'halt', 'poweroff', 'reboot']) {
    tree.remove(`usr/bin/${command}`)
    tree.remove(`usr/sbin/${command}`)
    tree.addSymlink(`usr/sbin/${command}`, '../bin/busybox')
  }
  const running = servicesIn(tree)
  const users = running.flatMap(({ user }) => (user ? [user] : []))
  const passwd = users.map(({ name, id, home }) => `${name}:x:${id}:${id}:${name}:${home}:/usr/sbin/nologin\n`)
  tree.addFile(
    'etc/passwd',
    `root::0:0:root:/root:/bin/sh\n${passwd.join('')}nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n`,
  )
  tree.addFile(
    'etc/group',
    `root:x:0:\n${users.map(({ name, id }) => `${name}:x:${id}:\n`).join('')}nogroup:x:65534:\n`,
  )
  tree.addFile('etc/shells', '/bin/sh\n')
  tree.addFile('etc/hostname', 'guest\n')
  tree.addFile('etc/hosts', '127.0.0.1 localhost guest\n::1 localhost\n')
  tree.addFile('etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n')
  tree.addFile('etc/inittab', inittab)
  tree.addFile('etc/rc.start', startScript, 0o755)
  tree.addFile('etc/rc.stop', stopScript, 0o755)
  tree.addFile('etc/acpi/PWRF/00000080', '#!/bin/sh\nexec /usr/sbin/poweroff\n', 0o755)
  setUpServices(tree)
  for (const [index, service] of running.entries()) {
    if (service.script === undefined) continue
    tree.addFile(`etc/services.d/${index}-${service.name}`, serviceScript(service.script), 0o755)
  }
  addAuthorizedKeys(tree, authorizedKeys)
}

/** Who may log in as root over ssh. */
export function addAuthorizedKeys(tree: FileTree, authorizedKeys: readonly string[]): void {
  if (authorizedKeys.length === 0) return
  tree.addFolder('root/.ssh', 0o700)
  tree.addFile('root/.ssh/authorized_keys', `${authorizedKeys.join('\n')}\n`, 0o600)
}
