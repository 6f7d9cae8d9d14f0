/** From promises, in which the host's disks speak, to the callbacks of the layers that have none. */

import { NbdError } from './nbd-error.ts'

/** Tells what a disk gave, or the disk's own error. Any other error is a broken invariant. */
export function tellOutcome<Result>(outcome: Promise<Result>, told: (outcome: Result | NbdError) => void): void {
  outcome.then(told, (error) => {
    if (!(error instanceof NbdError)) throw error
    told(error)
  })
}
