/**
 * Whether a replica's engine translates hot code, or only interprets. The guest cannot tell, so a pair may mix both: to see
 * that it does not diverge, or whether a fault lies in the translator. `UNDERSTUDY_ENGINE` says it, to all processes that
 * `up`, `run` or `replica` start: `interpret` for every replica, `a=interpret` for one of them.
 */

import { ExitCode, WorldError } from '../base/assert.ts'
import type { ReplicaName } from './vm-folder.ts'

export type EngineSetting = 'translate' | 'interpret'

const pattern = /^(?:([ab])=)?(translate|interpret)$/

/** @throws WorldError `bad-configuration` */
export function engineSettingOf(replica: ReplicaName, text = process.env.UNDERSTUDY_ENGINE): EngineSetting {
  let setting: EngineSetting = 'translate'
  for (const word of text?.split(',') ?? []) {
    const match = pattern.exec(word)
    if (!match) {
      throw new WorldError(
        'bad-configuration',
        `UNDERSTUDY_ENGINE is "${text}": write interpret, or a=interpret or b=interpret for one replica`,
        ExitCode.badConfiguration,
      )
    }
    if (match[1] === undefined || match[1] === replica) setting = match[2] as EngineSetting
  }
  return setting
}
