/** `power`, `protect`, `unprotect`, `down`: what an operator asks of a running VM. */

import { type Command, InvalidArgumentError, Option } from 'commander'
import { parseDuration } from '../base/units.ts'
import { type PairStatus, takeDown } from '../host/local-pair.ts'
import { move, pressPowerButton, protect, shutDown, unprotect, type VmEnd } from '../host/vm-operations.ts'
import { ProgressLine, printJson, say } from './output.ts'

interface JsonOption {
  readonly json?: boolean
}

interface DownOptions extends JsonOption {
  readonly force?: boolean
  readonly timeout: number
}

function parseTimeout(text: string): number {
  try {
    return parseDuration(text)
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
}

/** How long a guest may take to shut itself down. */
function timeoutOption(): Option {
  return new Option('--timeout <DURATION>', 'pull the plug when the guest is not off after this')
    .argParser(parseTimeout)
    .default(20_000, '20s')
}

function describeEnd(vmEnd: VmEnd): string {
  return vmEnd.end === 'poweredOff' ? 'down: the guest powered off' : `down: the plug was pulled (${vmEnd.reason})`
}

export function addOperatorCommands(program: Command): void {
  const vmArgument = ['<VM>', 'VM file, or a folder with vm.toml'] as const
  const tell = (status: PairStatus, { json }: JsonOption): void => {
    if (json) printJson(status)
    else say(`${status.name}: ${status.protection}`)
  }
  program
    .command('power')
    .description("press a VM's power button: the guest shuts down if it listens to it (exit 4 if it does not)")
    .argument(...vmArgument)
    .option('--json', 'print {"pressed":true}')
    .action(async (vm: string, options: JsonOption) => {
      await pressPowerButton(vm)
      if (options.json) printJson({ pressed: true })
      else say('pressed the power button')
    })
  program
    .command('protect')
    .description('give a running VM a backup, while it runs, and a new one whenever that is lost')
    .argument(...vmArgument)
    .option('--json', 'print the status as one JSON object')
    .action(async (vm: string, options: JsonOption) => {
      const progress = new ProgressLine()
      const status = await protect(vm, (text) => progress.show('protect', text))
      progress.end()
      tell(status, options)
    })
  program
    .command('move')
    .description(
      'move a role of a protected VM to another process: the backup becomes the primary, or a new backup comes',
    )
    .addArgument(program.createArgument('<ROLE>', 'which replica').choices(['primary', 'backup']))
    .argument(...vmArgument)
    .option('--json', 'print the status as one JSON object')
    .action(async (role: 'primary' | 'backup', vm: string, options: JsonOption) => {
      const progress = new ProgressLine()
      const status = await move(vm, role, (text) => progress.show('move', text))
      progress.end()
      tell(status, options)
    })
  program
    .command('unprotect')
    .description("end a VM's backup, in order; the VM goes on")
    .argument(...vmArgument)
    .option('--json', 'print the status as one JSON object')
    .action(async (vm: string, options: JsonOption) => tell(await unprotect(vm), options))
  program
    .command('down')
    .description('shut a VM down by its power button, and end its replicas, LAN and disk server')
    .argument(...vmArgument)
    .option('--force', 'do not ask the guest: pull the plug')
    .addOption(timeoutOption())
    .option('--json', 'print how it ended: {"end":"poweredOff"} or {"end":"plugPulled","reason":"…"}')
    .action(async (vm: string, options: DownOptions) => {
      const progress = new ProgressLine()
      const vmEnd = options.force
        ? await forced(vm)
        : await shutDown(vm, options.timeout, (text) => progress.show('down', text))
      progress.end()
      if (options.json) printJson(vmEnd)
      else say(describeEnd(vmEnd))
    })
}

async function forced(vm: string): Promise<VmEnd> {
  await takeDown(vm)
  return { end: 'plugPulled', reason: '--force' }
}
