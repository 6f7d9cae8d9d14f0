/** A discipline as words of a command line: `--discipline epoch --protocol original --epoch 8000`. */

import { ExitCode, WorldError } from '../base/assert.ts'
import {
  type Discipline,
  epochProtocols,
  exactDiscipline,
  longestEpochInstructions,
  shortestEpochInstructions,
} from '../log/discipline.ts'

export interface DisciplineWords {
  readonly discipline?: string | undefined
  readonly protocol?: string | undefined
  readonly epoch?: string | undefined
}

/** @throws WorldError when a word is not known */
export function chooseDiscipline({
  discipline = 'exact',
  protocol = 'revised',
  epoch = '50000',
}: DisciplineWords): Discipline {
  if (discipline === 'exact') return exactDiscipline
  if (discipline !== 'epoch') throw wrong(`discipline "${discipline}": write exact or epoch`)
  const known = epochProtocols.find((name) => name === protocol)
  if (known === undefined) throw wrong(`protocol "${protocol}": write ${epochProtocols.join(' or ')}`)
  const instructions = Number(epoch)
  const isInRange = instructions >= shortestEpochInstructions && instructions <= longestEpochInstructions
  if (!Number.isInteger(instructions) || !isInRange) {
    throw wrong(`epoch "${epoch}": write ${shortestEpochInstructions} to ${longestEpochInstructions} instructions`)
  }
  return { kind: 'epoch', protocol: known, instructions }
}

function wrong(message: string): WorldError {
  return new WorldError('bad-discipline', message, ExitCode.usage)
}
