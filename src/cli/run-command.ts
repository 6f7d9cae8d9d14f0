/** `understudy run`: one machine, unprotected; or one bare program. */

import { type Command, InvalidArgumentError } from 'commander'
import { ExitCode, WorldError } from '../base/assert.ts'
import { parseSize } from '../base/units.ts'
import { runBareProgram } from '../host/bare-program.ts'
import type { MachineProfile } from '../host/profiler.ts'
import { runAlone } from '../host/run-alone.ts'
import { jsonText, printJson, say } from './output.ts'
import { profileTable } from './profile-table.ts'

interface RunOptions {
  readonly elf?: string
  readonly maxInstructions?: bigint
  readonly memory?: string
  readonly profile?: boolean
  readonly json?: boolean
}

function parseCount(text: string): bigint {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('write a whole number')
  return BigInt(text)
}

export function addRunCommand(program: Command): void {
  program
    .command('run')
    .description('run one machine unprotected, its console on this terminal (Ctrl-] ends it); or a bare ELF program')
    .argument('[VM]', 'VM file, or a folder with vm.toml')
    .option('--elf <FILE>', 'run this bare RISC-V program in M mode instead; exits with its code')
    .option('--max-instructions <N>', 'give up after N instructions (--elf)', parseCount)
    .option('--memory <SIZE>', 'RAM for --elf (default 128M)')
    .option('--profile', 'say at the end, on standard error, where the work went')
    .option('--json', 'print exit code, instructions and digest as one JSON object (--elf); the profile as an object')
    .action(async (vm: string | undefined, options: RunOptions) => {
      if (options.elf !== undefined) {
        runElf(options.elf, options)
        return
      }
      if (vm === undefined) {
        throw new WorldError('usage', 'name a VM file, or a program with --elf (see --help)', ExitCode.usage)
      }
      const showProfile = (profile: MachineProfile): void =>
        say(options.json ? jsonText({ profile }) : profileTable(profile))
      process.exitCode = await runAlone(vm, say, options.profile ? showProfile : undefined)
    })
}

function runElf(path: string, options: RunOptions): void {
  try {
    const result = runBareProgram(path, {
      ...(options.maxInstructions === undefined ? {} : { maxInstructions: options.maxInstructions }),
      ...(options.memory === undefined ? {} : { ramBytes: parseSize(options.memory) }),
      ...(options.profile ? { isProfiled: true } : {}),
      onConsole: (bytes) => (options.json ? process.stderr : process.stdout).write(bytes),
    })
    if (options.json) printJson(result)
    else if (result.profile) say(profileTable(result.profile))
    process.exitCode = result.exit & 0xff
  } catch (error) {
    if (error instanceof WorldError) throw error
    throw new WorldError('internal', (error as Error).message, ExitCode.ownFailureOfBareProgram)
  }
}
