/**
 * What a replica reaches of the world: the disk server (with the arbiter in it) and the switch. Each tells its peer, the
 * primary with its heartbeats, the backup with its acknowledgements.
 *
 * The rule (docs/PROTOCOL.md, "Partial failure"): a backup takes over from a living primary if for the detector's
 * `outOfReachMs` on end it reaches the disk server, all that its primary reaches, and something that its primary does
 * not. What both lack (a dead switch, a slow disk) is no reason, and neither is what the backup alone lacks. Taking over
 * is a question to the arbiter as always; so a backup that cannot ask it has no reason either.
 *
 * A replica that knows its peer to be better placed lets it ask first, if the two part for any cause: a courtesy that
 * makes the likely winner the one that can serve. Who wins is the arbiter's word alone.
 */

export interface Reach {
  /** The disk server answers. */
  readonly disk: boolean
  /** The switch answers; also said of a machine that has no network. */
  readonly lan: boolean
}

export const fullReach: Reach = { disk: true, lan: true }

export function isSameReach(a: Reach, b: Reach): boolean {
  return a.disk === b.disk && a.lan === b.lan
}

/** Whether `one` could serve the world better than `other`, and ask the arbiter for it. */
export function isBetterPlaced(one: Reach, other: Reach): boolean {
  return one.disk && (one.lan || !other.lan) && !isSameReach(one, other)
}

/** In words, of a reach that is not full. */
export function lackedBy({ disk, lan }: Reach): string {
  return disk ? 'the LAN' : lan ? 'the disk server' : 'disk server and LAN'
}
