/**
 * The frame of a command for developers: a benchmark, a campaign, the simulator. `--help` says all there is to say; what is wrong
 * with the command line, or with the world, is one line and an exit code, as for users; an error of ours keeps its stack.
 */

import { Command } from 'commander'
import { ExitCode, WorldError } from '../../src/base/assert.ts'
import { oneLineErrors } from '../../src/cli/output.ts'

/** @param call how it is called, before its options: `npm run sim --` */
export function developerCommand(call: string, description: string): Command {
  return new Command(call)
    .description(description)
    .configureOutput(oneLineErrors('error'))
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? ExitCode.ok : ExitCode.usage))
}

/** Reads the command line of this process, and does `main` with it. `command.error` in it refuses what one option cannot know. */
export async function runDeveloperCommand<Options extends object>(
  command: Command,
  main: (options: Options, words: readonly string[]) => Promise<void> | void,
): Promise<void> {
  command.parse()
  try {
    await main(command.opts<Options>(), command.args)
  } catch (error) {
    if (!(error instanceof WorldError)) throw error
    console.error(`error: ${error.message}`)
    process.exitCode = error.exitCode
  }
}
