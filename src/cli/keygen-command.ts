/** `understudy keygen`: makes the key that a VM's hosts share. */

import type { Command } from 'commander'
import { defaultIdentity, generateKey, writeKeyFile } from '../net/shared-key.ts'
import { printJson, say } from './output.ts'

const help = `
The key lets in: whoever has it can be a replica of the VM, read and write its disks, and decide who is primary.
Copy the file to each of the VM's hosts over a channel you trust (scp), keep its mode 0600, and name it in their
configuration. Processes of one host speak over unix sockets and need none.

It is one line IDENTITY:HEX, the format of GnuTLS, which NBD's tools read as well:
  nbdinfo 'nbds://understudy@HOST:PORT/EXPORT?tls-psk-file=keys.psk'
  qemu-img info --object tls-creds-psk,id=t,dir=FOLDER,username=understudy,endpoint=client \\
    --image-opts driver=nbd,host=HOST,port=PORT,export=EXPORT,tls-creds=t

Examples:
  understudy keygen                              writes keys.psk
  understudy keygen --identity shop shop.psk     a key for one VM of several`

export function addKeygenCommand(program: Command): void {
  program
    .command('keygen')
    .description('make the pre-shared key (TLS 1.3) that processes of a VM on different hosts need')
    .argument('[FILE]', 'where it goes, with mode 0600; a file that exists is never overwritten', 'keys.psk')
    .option('--identity <NAME>', "the key's name, which crosses the network in clear text", defaultIdentity)
    .option('--json', 'print file and identity as one JSON object')
    .addHelpText('after', help)
    .action((file: string, options: { identity: string; json?: boolean }) => {
      writeKeyFile(file, generateKey(options.identity))
      if (options.json) printJson({ file, identity: options.identity })
      else say(`key written: ${file} (identity ${options.identity}); copy it to the VM's other hosts`)
    })
}
