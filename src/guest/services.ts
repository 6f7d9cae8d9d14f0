/**
 * How the guest's servers are set up and started: what their packages' maintainer scripts would have done, as data.
 *
 * The idea: maintainer scripts cannot run (the host has another architecture and we are not root), but for a server they
 * do little: a user, a few folders, a link or two. A table row per server says it; rows apply when the row's program
 * is among the guest's files. The minimal flavour starts servers by a small script each; systemd has units for it.
 *
 * A package without a row is installed but not started. Redis keeps its append-only file on the disk: the guest's
 * promise is that an acknowledged write is on the shared disk's way. `redis.appendfsync=always` on the kernel's command
 * line makes it wait for the disk each time (default: `everysec`).
 */

import type { FileTree } from './file-tree.ts'

export interface GuestUser {
  readonly name: string
  /** Both user and group number. */
  readonly id: number
  readonly home: string
}

export interface ServiceRecipe {
  readonly name: string
  /** The row applies when this file is there. */
  readonly program: string
  readonly user?: GuestUser
  /** Belong to `user`. */
  readonly folders: readonly string[]
  readonly setUp?: (tree: FileTree) => void
  /** Shell commands of the minimal flavour: `$1` is `start`, `ready` (0 when it answers) or `stop`. Absent: systemd's. */
  readonly script?: string
  /** A drop-in for its systemd unit. */
  readonly unit?: { readonly name: string; readonly dropIn: string }
}

/** Ends a program by its name and waits until it is gone. */
const stopByName = (name: string) => `    killall -TERM ${name} 2>/dev/null
    while pidof ${name} >/dev/null; do sleep 0.05; done`

/**
 * `hz`: Redis looks after itself so many times a second, and each time costs two million instructions (it asks its allocator
 * for statistics): ten times, its default, keep an idle machine at 19 million instructions a second, once at two. With
 * many clients it raises the number itself (`dynamic-hz`). Its file is then synced up to a second later.
 */
const redisOptions = '--protected-mode no --bind 0.0.0.0 --appendonly yes --hz 1 --ignore-warnings ARM64-COW-BUG'

export const services: readonly ServiceRecipe[] = [
  {
    name: 'redis',
    program: 'usr/bin/redis-server',
    user: { name: 'redis', id: 990, home: '/var/lib/redis' },
    folders: ['var/lib/redis', 'var/log/redis'],
    script: `  start)
    fsync=everysec
    for word in $(cat /proc/cmdline); do
      case $word in redis.appendfsync=*) fsync=\${word#*=} ;; esac
    done
    echo 1 >/proc/sys/vm/overcommit_memory
    start-stop-daemon -S -q -c redis:redis -x /usr/bin/redis-server -- --daemonize yes --dir /var/lib/redis \\
      --logfile /var/log/redis/redis-server.log --save '' --appendfsync $fsync \\
      ${redisOptions}
    ;;
  ready)
    # The answer to a PING, without the cost of starting redis-cli.
    [ "$(printf 'PING\\r\\n' | nc -w 1 127.0.0.1 6379 2>/dev/null | head -c 5)" = +PONG ]
    ;;
  stop)
${stopByName('redis-server')}
    ;;`,
    unit: {
      name: 'redis-server.service',
      dropIn: `[Service]
ExecStart=
ExecStart=/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no ${redisOptions}
`,
    },
  },
  {
    name: 'nginx',
    program: 'usr/sbin/nginx',
    user: { name: 'www-data', id: 33, home: '/var/www' },
    folders: ['var/lib/nginx', 'var/log/nginx'],
    setUp: (tree) => {
      if (tree.has('etc/nginx/sites-available/default')) {
        tree.addSymlink('etc/nginx/sites-enabled/default', '/etc/nginx/sites-available/default')
      }
      tree.addFolder('var/www/html')
      tree.addFile('var/www/html/index.html', '<!doctype html><title>guest</title><p>It serves.\n')
    },
    script: `  start) mkdir -p /run/nginx && nginx ;;
  ready) wget -q -O /dev/null http://127.0.0.1/ 2>/dev/null ;;
  stop)
${stopByName('nginx')}
    ;;`,
  },
  {
    name: 'dropbear',
    program: 'usr/sbin/dropbear',
    folders: ['etc/dropbear'],
    script: `  start)
    # Host keys are made at the first connection, from the guest's own entropy. Without a key of the owner's, root
    # has an empty password.
    blank=-B
    [ -s /root/.ssh/authorized_keys ] && blank=-s
    dropbear -R $blank
    ;;
  ready) pidof dropbear >/dev/null ;;
  stop)
${stopByName('dropbear')}
    ;;`,
  },
  {
    name: 'openssh',
    program: 'usr/sbin/sshd',
    user: { name: 'sshd', id: 991, home: '/run/sshd' },
    folders: [],
  },
]

/** The rows whose program this guest has. */
export function servicesIn(tree: FileTree): ServiceRecipe[] {
  return services.filter((service) => tree.has(service.program))
}

/** Folders, links and owners, as the maintainer scripts would leave them. */
export function setUpServices(tree: FileTree): void {
  for (const service of servicesIn(tree)) {
    const owner = service.user ? { userId: service.user.id, groupId: service.user.id } : {}
    for (const folder of service.folders) tree.addFolder(folder, 0o755, owner)
    service.setUp?.(tree)
  }
}
