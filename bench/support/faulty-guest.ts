/** A part of a benchmark that hurts its VM: the fault trials' VM, protected, for as long as it is used. */

import { FaultyVm, type FaultyVmOptions } from '../../test/faults/faulty-vm.ts'

/** Its traces stay if `use` fails. */
export async function withFaultyVm(
  options: FaultyVmOptions,
  say: (line: string) => void,
  use: (vm: FaultyVm) => Promise<void>,
): Promise<void> {
  const { XDG_STATE_HOME } = process.env
  const vm = await FaultyVm.create((line) => say(`  ${line}`), options)
  let isDone = false
  try {
    await vm.ensureProtected()
    await use(vm)
    isDone = true
  } finally {
    if (!isDone) say(`  the traces are kept in ${vm.statePath}`)
    await vm.remove(!isDone)
    // It has a state folder of its own; the benchmark's other VMs are in theirs.
    process.env.XDG_STATE_HOME = XDG_STATE_HOME
  }
}
