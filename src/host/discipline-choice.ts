/** A discipline as words of a command line: `--discipline epoch --protocol original --epoch 8000`. */

import { ExitCode, WorldError } from '../base/assert.ts'
import {
  type Discipline,
  defaultEpoch,
  epochLengths,
  epochProtocols,
  exactDiscipline,
  isEpochLength,
} from '../log/discipline.ts'

export interface DisciplineWords {
  readonly discipline?: string | undefined
  readonly protocol?: string | undefined
  readonly epoch?: string | undefined
}

/** @throws WorldError when a word is not known */
export function chooseDiscipline({
  discipline = 'exact',
  protocol = defaultEpoch.protocol,
  epoch = `${defaultEpoch.instructions}`,
}: DisciplineWords): Discipline {
  if (discipline === 'exact') return exactDiscipline
  if (discipline !== 'epoch') throw wrong(`discipline "${discipline}": write exact or epoch`)
  const known = epochProtocols.find((name) => name === protocol)
  if (known === undefined) throw wrong(`protocol "${protocol}": write ${epochProtocols.join(' or ')}`)
  const instructions = Number(epoch)
  if (!isEpochLength(instructions)) throw wrong(`epoch "${epoch}": write ${epochLengths}`)
  return { kind: 'epoch', protocol: known, instructions }
}

function wrong(message: string): WorldError {
  return new WorldError('bad-discipline', message, ExitCode.usage)
}
