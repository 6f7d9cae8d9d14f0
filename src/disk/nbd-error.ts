/** What can go wrong with a disk behind NBD, told apart by what the caller should do about it. */

import { ExitCode, WorldError } from '../base/assert.ts'

/**
 * - `unreachable`: nobody listens there. Try again.
 * - `connection-lost`: the request may or may not have been done. Connect again and issue it again.
 * - `fenced`: the generation is over; nothing of this request was done after the grant. Stop.
 * - `refused`: no such export, or a wrong token or key.
 * - `io`: the server could not do it; `errno` says why.
 * - `protocol`: the other end does not speak NBD as we do.
 */
export type NbdErrorReason = 'unreachable' | 'connection-lost' | 'fenced' | 'refused' | 'io' | 'protocol'

export class NbdError extends WorldError {
  readonly reason: NbdErrorReason
  /** NBD error number (`NbdErrno`) of an `io` or `fenced` error, else 0. */
  readonly errno: number

  constructor(reason: NbdErrorReason, message: string, errno = 0) {
    super(`nbd-${reason}`, message, ExitCode.diskOrArbiterUnreachable)
    this.reason = reason
    this.errno = errno
  }
}
