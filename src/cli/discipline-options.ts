/** The options by which a machine's discipline is chosen (host/discipline-choice.ts), for every command that makes one. */

import type { Command } from 'commander'

export function addDisciplineOptions(command: Command): Command {
  return command
    .option('--discipline <NAME>', 'when inputs enter the guest: exact or epoch')
    .option('--protocol <NAME>', 'in the epoch discipline: original or revised')
    .option('--epoch <INSTRUCTIONS>', 'in the epoch discipline: length of an epoch')
    .option('--scsi', 'the root disk is on a SCSI bus, whose driver knows uncertain interrupts')
}
