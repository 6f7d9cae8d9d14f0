/** `understudy config-schema`: the JSON Schema of VM files and of the files of hosts, for editors and scripts. */

import { type Command, Option } from 'commander'
import { hostFileJsonSchema, hostFileKinds } from '../host/host-config.ts'
import { vmJsonSchema } from '../host/vm-config.ts'
import { printJson } from './output.ts'

type Kind = 'vm' | (typeof hostFileKinds)[number]

export function addConfigSchemaCommand(program: Command): void {
  program
    .command('config-schema')
    .description('print the JSON Schema of VM files, or of the files of processes on hosts of their own')
    .addOption(new Option('--of <KIND>', 'which file').choices(['vm', ...hostFileKinds]).default('vm'))
    .action(({ of: kind }: { of: Kind }) => printJson(kind === 'vm' ? vmJsonSchema() : hostFileJsonSchema(kind)))
}
