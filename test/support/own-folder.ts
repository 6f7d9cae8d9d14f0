import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { endWhatIsLeft, endWithThisProcess } from './reaper.ts'

/** A folder for a test file, where VMs have their state, too. After the tests it is gone, and so is whatever runs still. */
export function ownFolder(word: string): string {
  endWithThisProcess()
  const folder = mkdtempSync(join(tmpdir(), `understudy-${word}-`))
  process.env.XDG_STATE_HOME = join(folder, 'state')
  after(() => {
    endWhatIsLeft()
    rmSync(folder, { recursive: true, force: true })
  })
  return folder
}
