/** `understudy logs`: what the processes of a VM wrote down. */

import { type Command, Option } from 'commander'
import { ExitCode, WorldError } from '../base/assert.ts'
import { hasTraces, type TraceLine, TraceReader, type TraceSource, traceSources } from '../host/trace-reader.ts'
import { findVmFolder } from '../host/vm-argument.ts'
import { processTraces } from '../host/vm-folder.ts'
import { countFrom } from './count-argument.ts'
import { vmArgument } from './vm-argument.ts'

interface LogsOptions {
  readonly follow?: boolean
  readonly replica?: TraceSource
  readonly lines?: number
}

export function addLogsCommand(program: Command): void {
  program
    .command('logs')
    .description('print the traces of replicas, disk server and LAN, merged by time; or one of them, or the console')
    .argument(...vmArgument)
    .option('-f, --follow', 'go on with what comes, until Ctrl-C')
    .addOption(new Option('--replica <NAME>', 'only this one').choices([...traceSources]))
    .option('-n, --lines <N>', 'only the last N lines', countFrom(0))
    .action(async (vm: string, options: LogsOptions) => {
      const folder = findVmFolder(vm)
      if (!hasTraces(folder)) {
        throw new WorldError('never-ran', `VM ${folder.name} never ran here: no traces yet`, ExitCode.wrongState)
      }
      const sources = options.replica === undefined ? processTraces : [options.replica]
      const print = ({ source, text }: TraceLine): void => {
        process.stdout.write(sources.length > 1 ? `${source.padEnd(4)} ${text}\n` : `${text}\n`)
      }
      const reader = new TraceReader(folder, sources)
      const lines = reader.read(!options.follow)
      for (const line of options.lines === undefined ? lines : lines.slice(lines.length - options.lines)) print(line)
      if (!options.follow) return
      const interrupted = new AbortController()
      process.once('SIGINT', () => interrupted.abort())
      await reader.follow((more) => more.forEach(print), interrupted.signal)
    })
}
