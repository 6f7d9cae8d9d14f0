/**
 * What commands that look after a VM take as its name: its VM file, the folder of that, or the file of one of its
 * processes on this host (host-config.ts). The last has a key file; a VM file never has.
 */

import { existsSync, readFileSync, statSync } from 'node:fs'
import { parseConfigText } from './config-file.ts'
import { hostFolder } from './host-config.ts'
import { readVmConfig } from './vm-config.ts'
import { VmFolder } from './vm-folder.ts'

/**
 * The state folder, on this host, of the VM that the argument names.
 * @throws WorldError `no-such-vm` or `bad-configuration`
 */
export function findVmFolder(vm: string): VmFolder {
  if (existsSync(vm) && !statSync(vm).isDirectory()) {
    const file = parseConfigText(readFileSync(vm, 'utf8'), vm)
    if (typeof file === 'object' && file !== null && 'key' in file) {
      return hostFolder(vm, file as Readonly<Record<string, unknown>>)
    }
  }
  return new VmFolder(readVmConfig(vm).config.name)
}
