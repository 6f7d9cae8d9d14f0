/**
 * The full guest: Debian with systemd, udev, a login on the serial console, and dpkg's own records, so that apt works
 * inside it.
 *
 * The idea: a Debian system is its packages' files plus what maintainer scripts add. The scripts cannot run here (other
 * architecture, no root, and in the guest they would cost minutes), so what they would add to a server is written as
 * data: users from base-passwd's own list, PAM's common files, units enabled as their `[Install]` sections say. systemd
 * makes the rest at the first boot (users by sysusers.d, folders by tmpfiles.d, the machine's identity).
 *
 * It does not run maintainer scripts, so a package that needs its own may have to be reconfigured in the guest. Kernel
 * modules beyond the initial RAM disk's are not in it. Root has an empty password on the console; ssh takes root's keys
 * only. See machine-id(5), systemd.unit(5), sysusers.d(5), deb822(5).
 */

import { readFileSync } from 'node:fs'
import type { FileTree } from './file-tree.ts'
import { addAuthorizedKeys } from './minimal-root.ts'
import { servicesIn, setUpServices } from './services.ts'

/** Besides these, what they depend on: about 150 packages. */
export const systemdPackages: readonly string[] = [
  'apt',
  'base-files',
  'base-passwd',
  'bash',
  'bsdutils',
  'coreutils',
  'dash',
  'dbus',
  'debian-archive-keyring',
  'debianutils',
  'diffutils',
  'dpkg',
  'findutils',
  'grep',
  'gzip',
  'hostname',
  'iproute2',
  'iputils-ping',
  'kmod',
  'less',
  'libc-bin',
  'libpam-modules',
  'libpam-runtime',
  'libpam-systemd',
  'login',
  'mawk',
  'mount',
  'nano-tiny',
  'netbase',
  'passwd',
  'perl-base',
  'procps',
  'sed',
  'sysvinit-utils',
  'systemd-sysv',
  'tar',
  'udev',
  'util-linux',
]

/** What dpkg would remember of an installed package. */
export interface InstalledPackage {
  readonly name: string
  /** The package's control file, as `dpkg-deb --field` prints it. */
  readonly control: string
  readonly paths: readonly string[]
}

const networkScript = `#!/bin/sh
for word in $(cat /proc/cmdline); do
  case $word in
    ip4=*) address=\${word#*=} ;;
    gw4=*) gateway=\${word#*=} ;;
    dns4=*) echo "nameserver \${word#*=}" >/etc/resolv.conf ;;
  esac
done
[ -n "$address" ] || exit 0
ip link set eth0 up
ip address replace "$address" dev eth0
[ -z "$gateway" ] || ip route replace default via "$gateway"
`

const networkUnit = `[Unit]
Description=Address of eth0 from the kernel's command line (ip4= gw4= dns4=)
DefaultDependencies=no
After=sys-subsystem-net-devices-eth0.device systemd-sysctl.service
Wants=sys-subsystem-net-devices-eth0.device network.target
Before=network.target network-online.target
Conflicts=shutdown.target
ConditionKernelCommandLine=ip4

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/guest-network
`

const sshKeysUnit = `[Unit]
Description=Host keys of this guest's ssh server
Before=ssh.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
`

const pam: Readonly<Record<string, string>> = {
  'common-auth': 'auth required pam_unix.so nullok\n',
  'common-account': 'account required pam_unix.so\n',
  'common-password': 'password required pam_unix.so obscure yescrypt\n',
  'common-session': 'session required pam_unix.so\nsession optional pam_systemd.so\n',
  'common-session-noninteractive': 'session required pam_unix.so\n',
}

/**
 * Work of the first boot that costs seconds of the guest's time and brings a server nothing: the hardware database, an
 * index of messages, a cache of libraries that are where the loader looks first. dpkg's triggers still make them.
 */
const firstBootWork = ['systemd-hwdb-update.service', 'systemd-journal-catalog-update.service', 'ldconfig.service']

/** Links that update-alternatives would make. */
const alternatives: readonly [link: string, program: string][] = [
  ['usr/bin/awk', 'usr/bin/mawk'],
  ['usr/bin/editor', 'usr/bin/nano-tiny'],
  ['usr/bin/nawk', 'usr/bin/mawk'],
  ['usr/bin/pager', 'usr/bin/less'],
  ['usr/bin/which', 'usr/bin/which.debianutils'],
]

/** Files that scripts copy from a template: where it belongs, and where the package keeps it. */
const copies: readonly [path: string, template: string][] = [
  ['etc/nsswitch.conf', 'usr/share/libc-bin/nsswitch.conf'],
  ['etc/profile', 'usr/share/base-files/profile'],
  ['root/.bashrc', 'usr/share/base-files/dot.bashrc'],
  ['root/.profile', 'usr/share/base-files/dot.profile'],
  ['etc/ssh/sshd_config', 'usr/share/openssh/sshd_config'],
]

function textOf(tree: FileTree, path: string): string | undefined {
  const node = tree.get(path)
  return node?.kind === 'file' ? readFileSync(node.source, 'utf8') : undefined
}

function addUsers(tree: FileTree): void {
  const users = servicesIn(tree).flatMap(({ user }) => (user ? [user] : []))
  const known = textOf(tree, 'usr/share/base-passwd/passwd.master') ?? 'root:*:0:0:root:/root:/bin/bash\n'
  const knownGroups = textOf(tree, 'usr/share/base-passwd/group.master') ?? 'root:*:0:\n'
  const isNew = (name: string, table: string) => !new RegExp(`^${name}:`, 'm').test(table)
  const own = users.filter(({ name }) => isNew(name, known))
  const passwd =
    known.replace(/^([^:]+):[^:]*:/gm, '$1:x:') +
    own.map(({ name, id, home }) => `${name}:x:${id}:${id}:${name}:${home}:/usr/sbin/nologin\n`).join('')
  const group = knownGroups + own.map(({ name, id }) => `${name}:x:${id}:\n`).join('')
  const names = passwd.split('\n').flatMap((line) => (line === '' ? [] : [line.slice(0, line.indexOf(':'))]))
  const shadow = names.map((name) => `${name}:${name === 'root' ? '' : '*'}:20309:0:99999:7:::\n`)
  const shadowGroup = { groupId: 42 }
  tree.addFile('etc/passwd', passwd)
  tree.addFile('etc/group', group)
  tree.addFile('etc/shadow', shadow.join(''), 0o640, shadowGroup)
  tree.addFile('etc/gshadow', group.replace(/^([^:]+):.*$/gm, '$1:*::'), 0o640, shadowGroup)
}

/** Makes the links that `systemctl enable` would, from a unit's `[Install]` section. */
export function enableUnit(tree: FileTree, unit: string): void {
  const path = ['etc/systemd/system', 'usr/lib/systemd/system']
    .map((folder) => `${folder}/${unit}`)
    .find((file) => tree.has(file))
  const text = path && textOf(tree, path)
  if (!text) return
  for (const [, key, values] of text.matchAll(/^(WantedBy|RequiredBy|Alias)=(.*)$/gm)) {
    for (const value of values!.split(/\s+/).filter((word) => word !== '')) {
      const link = key === 'Alias' ? value : `${value}.${key === 'WantedBy' ? 'wants' : 'requires'}/${unit}`
      tree.addSymlink(`etc/systemd/system/${link}`, `/${path}`)
    }
  }
}

function addUnits(tree: FileTree, wanted: readonly InstalledPackage[]): void {
  tree.addFile('usr/local/sbin/guest-network', networkScript, 0o755)
  tree.addFile('etc/systemd/system/guest-network.service', networkUnit)
  tree.addSymlink(
    'etc/systemd/system/sysinit.target.wants/guest-network.service',
    '/etc/systemd/system/guest-network.service',
  )
  tree.addSymlink('etc/systemd/system/default.target', '/usr/lib/systemd/system/multi-user.target')
  // Network cards keep the kernel's names: the kernel arguments speak of eth0.
  tree.addSymlink('etc/systemd/network/99-default.link', '/dev/null')
  for (const unit of firstBootWork) tree.addSymlink(`etc/systemd/system/${unit}`, '/dev/null')
  if (tree.has('usr/bin/ssh-keygen')) {
    tree.addFile('etc/systemd/system/guest-ssh-keys.service', sshKeysUnit)
    tree.addSymlink(
      'etc/systemd/system/ssh.service.wants/guest-ssh-keys.service',
      '/etc/systemd/system/guest-ssh-keys.service',
    )
  }
  for (const { paths } of wanted) {
    for (const path of paths) {
      const unit = /^(?:usr\/)?lib\/systemd\/system\/([^/@]+\.(?:service|socket|timer))$/.exec(path)?.[1]
      // A server's socket unit is the other way to start it: one of the two is enabled, as Debian's scripts do.
      if (unit !== undefined && unit !== 'ssh.socket') enableUnit(tree, unit)
    }
  }
  for (const { unit } of servicesIn(tree)) {
    if (unit) tree.addFile(`etc/systemd/system/${unit.name}.d/understudy.conf`, unit.dropIn)
  }
}

function addDpkgRecords(tree: FileTree, installed: readonly InstalledPackage[]): void {
  const status = installed.map(({ control }) =>
    control.trimEnd().replace(/^(Package: .*)$/m, '$1\nStatus: install ok installed'),
  )
  tree.addFile('var/lib/dpkg/status', `${status.join('\n\n')}\n`)
  tree.addFile('var/lib/dpkg/available', '')
  for (const folder of ['info', 'updates', 'triggers', 'alternatives', 'parts'])
    tree.addFolder(`var/lib/dpkg/${folder}`)
  for (const { name, control, paths } of installed) {
    const architecture = /^Architecture: (.*)$/m.exec(control)?.[1]
    const isShared = /^Multi-Arch: same$/m.test(control)
    const list = paths.map((path) => (path === '' ? '/.' : `/${path}`)).join('\n')
    tree.addFile(`var/lib/dpkg/info/${isShared ? `${name}:${architecture}` : name}.list`, `${list}\n`)
  }
}

/** Adds everything that the packages' scripts would have. `wantedNames` are the packages that the user named. */
export function addSystemdSystem(
  tree: FileTree,
  installed: readonly InstalledPackage[],
  wantedNames: readonly string[],
  authorizedKeys: readonly string[],
): void {
  for (const folder of ['dev', 'mnt', 'proc', 'run', 'sys', 'var/log', 'var/cache', 'etc']) tree.addFolder(folder)
  tree.addFolder('root', 0o700)
  tree.addFolder('tmp', 0o1777)
  tree.addFolder('var/tmp', 0o1777)
  for (const [link, target] of [
    ['var/run', '/run'],
    ['var/lock', '/run/lock'],
  ] as const) {
    tree.remove(link)
    tree.addSymlink(link, target)
  }
  for (const [path, template] of copies) {
    const text = textOf(tree, template)
    if (text !== undefined) tree.addFile(path, text)
  }
  for (const [link, program] of alternatives) {
    if (!tree.has(link) && tree.has(program)) tree.addSymlink(link, `/${program}`)
  }
  // Empty, not absent: systemd then makes an identity without treating it as a first boot with its questions.
  tree.addFile('etc/machine-id', '')
  tree.addFile('etc/hostname', 'guest\n')
  tree.addFile('etc/hosts', '127.0.0.1 localhost guest\n::1 localhost\n')
  tree.addFile('etc/fstab', '# The initial RAM disk has mounted the root disk.\n')
  tree.addFile('etc/locale.conf', 'LANG=C.UTF-8\n')
  tree.addSymlink('etc/default/locale', '../locale.conf')
  tree.addFile('etc/environment', '')
  tree.addFile('etc/shells', '/bin/sh\n/bin/bash\n/usr/bin/sh\n/usr/bin/bash\n')
  for (const [name, text] of Object.entries(pam)) tree.addFile(`etc/pam.d/${name}`, text)
  addUsers(tree)
  setUpServices(tree)
  addUnits(
    tree,
    installed.filter(({ name }) => wantedNames.includes(name)),
  )
  addDpkgRecords(tree, installed)
  addAuthorizedKeys(tree, authorizedKeys)
}
