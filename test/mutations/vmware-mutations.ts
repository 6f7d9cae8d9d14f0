/** Rules of VMware FT (2010), broken one by one, as far as no other table breaks them; noticed by the paper's own tests. */

import type { Mutation } from './mutations.ts'

const protocol = 'test/paper/vmware-ft/protocol-rules.test.ts'
const replay = 'test/paper/vmware-ft/replay-rules.test.ts'

export const vmwareMutations: readonly Mutation[] = [
  {
    name: 'the primary runs on when its log buffer is full',
    file: 'src/replication/hart-brake.ts',
    from: 'if (fill >= 1) this.pause(reason)',
    to: 'if (fill < 0) this.pause(reason)',
    noticedBy: {
      file: protocol,
      test: 'Logging channel: the primary stops when its log buffer is full, and only then; it goes on when there is room',
    },
  },
  {
    name: 'a backup that lags slows nobody',
    file: 'src/replication/lag-control.ts',
    from: 'if (this.#shortestMs > mostMs) next = Math.max(leastPercent, next - stepPercent)',
    to: 'if (this.#shortestMs > mostMs) next = Math.max(leastPercent, next)',
    noticedBy: {
      file: protocol,
      test: 'Logging channel: the backup says how far its execution lags; past the limit the primary is slowed a few percent at a time, and sped up after',
    },
  },
  {
    name: 'the time that lag control took is never given back',
    file: 'src/replication/lag-control.ts',
    from: 'next = Math.min(100, next + stepPercent)',
    to: 'next = Math.min(100, next)',
    noticedBy: {
      file: 'src/replication/lag-control.test.ts',
      test: 'past 30 ms of lag the share is cut in small steps, one an interval, never to nothing, and given back after',
    },
  },
  {
    name: 'a peak of lag slows the primary',
    file: 'src/replication/lag-control.ts',
    from: 'this.#shortestMs = Math.min(this.#shortestMs, lagMs)',
    to: 'this.#shortestMs = lagMs',
    noticedBy: {
      file: 'src/replication/lag-control.test.ts',
      test: 'a peak that does not last an interval costs nothing',
    },
  },
  {
    name: 'a backup that lives and acknowledges nothing is never lost',
    file: 'src/replication/failure-detector.ts',
    from: "    if (this.#owesSinceMs !== undefined && nowMs - this.#owesSinceMs >= timeoutMs) return 'stalled'\n",
    to: '',
    noticedBy: {
      file: protocol,
      test: 'Failure detection: and watching the log traffic and its acknowledgements: a peer that lives and does not do its part is lost',
    },
  },
  {
    name: 'disk I/Os that were in flight are not issued again at go-live',
    file: 'src/hypervisor/replayer.ts',
    from: '.filter((request) => !ownFirst.has(request.sequence))',
    to: '.filter(() => false)',
    noticedBy: {
      file: replay,
      test: 'Go live: disk I/Os with a start and no completion in the log are issued again, in their order',
    },
  },
  {
    name: 'overlapping disk I/Os go side by side',
    file: 'src/machine/devices/virtio/disk-requests.ts',
    from: 'return earlier.some((other) => conflict(other, request, epoch))',
    to: 'return earlier.length > 1000 && conflict(earlier[0]!, request, epoch)',
    noticedBy: {
      file: replay,
      test: 'Disk I/O: operations on the same sectors, one of them a write, are forced into one order',
    },
  },
  {
    name: 'a write to the shared disk does not wait for acknowledgements',
    file: 'src/log/output-rule.ts',
    from: "return output.operation !== 'read' &&",
    to: "return output.operation === 'flush' &&",
    noticedBy: { file: protocol, test: 'Shared disk: writes obey the Output Rule; reads need not wait' },
  },
]
