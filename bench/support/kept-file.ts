/**
 * The file of `--continue`: what was measured so far, at one commit. So a long measurement may be done in pieces, and whoever
 * measures need not be who reports.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { WorldError } from '../../src/base/assert.ts'
import { describeCommit } from './host.ts'

/**
 * What `path` has; undefined if there is no such file yet.
 * @throws WorldError when it is of another commit, or no such file at all
 */
export function readKept<Contents extends object>(path: string): Contents | undefined {
  if (!existsSync(path)) return undefined
  const { commit, ...contents } = parse(path)
  const now = describeCommit()
  if (commit !== now) {
    throw new WorldError('other-commit', `${path} is of commit ${commit}, this is ${now}: name another file`)
  }
  return contents as Contents
}

export function writeKept(path: string, contents: object): void {
  writeFileSync(path, JSON.stringify({ commit: describeCommit(), ...contents }))
}

function parse(path: string): { readonly commit?: string } {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as { readonly commit?: string }
  } catch (error) {
    throw new WorldError('no-kept-file', `${path} is no file of --continue: ${(error as Error).message}`)
  }
}
