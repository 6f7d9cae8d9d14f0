/** `understudy config-schema`: the VM file's JSON Schema, for editors and scripts. */

import type { Command } from 'commander'
import { vmJsonSchema } from '../host/vm-config.ts'
import { printJson } from './output.ts'

export function addConfigSchemaCommand(program: Command): void {
  program
    .command('config-schema')
    .description('print the JSON Schema of VM files')
    .action(() => printJson(vmJsonSchema()))
}
