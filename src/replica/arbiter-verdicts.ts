/** What the arbiter's answers mean to a role. Whether it was out of reach or said no is told apart by who asks. */

import type { HolderAnswer, TestAndSetAnswer } from '../disk/arbiter-record.ts'
import type { ArbiterAnswer } from '../replication/effects.ts'

/** Of a holder that wants to open the next generation. */
export function verdictOnOpening(answer: HolderAnswer): ArbiterAnswer {
  if (answer.accepted) return { result: 'granted', generation: answer.generation }
  return { result: 'refused', detail: `the machine is held by replica ${answer.holder ?? 'nobody'} now` }
}

/** Of a backup that wants to take over. */
export function verdictOnTestAndSet(answer: TestAndSetAnswer): ArbiterAnswer {
  if (answer.won) return { result: 'granted', generation: answer.generation }
  return {
    result: 'refused',
    detail: `replica ${answer.holder ?? 'nobody'} holds generation ${answer.generation}`,
    ...(answer.holder === null ? {} : { holder: answer.holder }),
    ...(answer.isEligible ? { eligibleIn: answer.generation } : {}),
  }
}
