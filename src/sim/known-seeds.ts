/**
 * Seeds that once failed, and what they had found. They are run first, always. A seed means the same only as long as nothing
 * changes what the dice are rolled for; so each bug has a unit test of its own as well, named here.
 */

export interface KnownSeed {
  readonly seed: number
  readonly found: string
}

export const knownSeeds: readonly KnownSeed[] = [
  {
    seed: 94,
    found:
      'own disks: a winner was lost before its copy had all that it had followed, while a new backup already copied from it, over ' +
      'the copy that was live before (replica/disks-with-copies.test.ts, "copies are stamped, and others may be made …")',
  },
  {
    seed: 147,
    found:
      'a primary dies after the arbiter has listed its backup and before the power-on is in the log: the backup went live ' +
      'with a machine that nobody switched on (host/hart.test.ts, "a hart that goes live with an empty log …")',
  },
  {
    seed: 901,
    found:
      'a flush fails, and the disk host crashes: the primary had forgotten what the flush was to cover, the backup not all ' +
      'of it, and read something else than its primary for ever (replica/disk-requests.test.ts, "a flush that was made …")',
  },
  {
    seed: 6750,
    found:
      'own disks: a primary whose backup was joining could not make a change and told the guest so; the backup had made it, and ' +
      'was listed with a copy that differed (host/own-disk.test.ts, "a change that the primary could not make …")',
  },
  {
    seed: 11_611,
    found:
      'a backup had ended, and its hart, which had not heard of it, asked for a read (replica/replayed-reads.test.ts, "what a ' +
      'hart asks for that has not heard …")',
  },
  {
    seed: 18_712,
    found:
      'a flush fails, its answer is lost with the connection, and the next flush succeeds without what the disk gave up; then its ' +
      'host crashes (disk/steady-disk.test.ts, "a flush whose answer was lost …")',
  },
  {
    seed: 52_750,
    found:
      'a false alarm of the checkers: what a primary had sent arrives after the backup went live, and is sent again by it: once ' +
      'before the failover, once after it',
  },
  {
    seed: 69_694,
    found:
      'a backup that reads the disk itself was stopped and dropped, and said on waking that it read something else than its ' +
      'primary (replication/read-stall.test.ts, "is none for a replica that stood still …")',
  },
  {
    seed: 85_279,
    found:
      'a false alarm of the checkers: a winner is lost before it has backups of its own, and the heir that then goes live has ' +
      'more of the log before it than the winner had',
  },
  {
    seed: 88_517,
    found:
      'a false alarm of the campaign: a failover while the machine is to stand still, so that the next live one ran on, and its ' +
      'last frame was still under way at the end',
  },
  {
    seed: 94_485,
    found:
      'own copies: the disk failed to make safe what its replica had followed, nobody asked it again, a new backup copied from it ' +
      'over the copy that was live before, and the replica was lost (host/own-disk.test.ts, "… is safe when it can be")',
  },
  {
    seed: 101_726,
    found:
      'a backup was given a machine that had run on beyond the last log entry; the other backup took over at that entry, ' +
      'and the first one took its log for the continuation of its own (hypervisor/live-copy.test.ts, "a copy is made where …")',
  },
]
