/** What keeps the world's view of the machine whole, the switch and the console, broken rule by rule. */

import type { Mutation } from './mutations.ts'

export const worldMutations: readonly Mutation[] = [
  {
    name: 'the switch learns the MAC of a protected machine',
    file: 'src/lan/ethernet-switch.ts',
    from: '    if (this.#machinesByMac.has(source)) {\n      this.#counts.spoofedDropped++\n      return deliveries\n    }\n',
    to: '',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'never learns its MAC: frames that carry it from another port are dropped and counted',
    },
  },
  {
    name: 'the switch listens to a replica whose generation is over',
    file: 'src/lan/ethernet-switch.ts',
    from: '    if (machine.port !== port) {\n      machine.counts.fencedDropped++\n      return deliveries\n    }\n',
    to: '',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'belongs to the highest generation; the old replica is told, and its outputs reach nobody',
    },
  },
  {
    name: 'the switch forwards an output that it had forwarded before',
    file: 'src/lan/machine-port.ts',
    from: '    if (sequence <= this.#forwardedSequence) return false\n',
    to: '',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'forwards each sequence once; a repeat is dropped, counted, and confirmed again',
    },
  },
  {
    name: 'frames enter a machine whose network card has no room for them',
    file: 'src/replica/live-hart.ts',
    from: 'this.#frames.length > 0 && this.frameRoom > 0',
    to: 'this.#frames.length > 0',
    noticedBy: {
      file: 'src/replica/live-hart.test.ts',
      test: 'a frame for which the card has no room waits outside the log, and none is lost (exact)',
    },
  },
  {
    name: 'a replica that goes live writes to console.log what its primary had written',
    file: 'src/host/console-log.ts',
    from: 'this.#writtenPosition() ?? rememberedFrom',
    to: 'rememberedFrom',
    noticedBy: {
      file: 'src/host/console-log.test.ts',
      test: 'nothing that the guest printed stands in console.log twice, wherever the primary died',
    },
  },
  {
    name: 'a viewer of the console is shown again what it saw before the failover',
    file: 'src/host/console-backlog.ts',
    from: '    if (this.#lastSequence !== undefined && output.sequence <= this.#lastSequence) return false\n',
    to: '',
    noticedBy: {
      file: 'src/host/console.test.ts',
      test: 'after a failover a viewer is attached to the survivor: nothing is missing, nothing comes twice',
    },
  },
  {
    name: 'frames after a restart of the switch have the numbers of frames before it',
    file: 'src/host/lan-backend.ts',
    from: '        this.#place.onFrame(frameId)\n',
    to: '',
    noticedBy: {
      file: 'src/host/lan-backend.test.ts',
      test: 'a switch that was started again is bound again, in the same generation, and numbers frames after the last received',
    },
  },
  {
    name: 'the switch forgets the frames that were not covered when a replica binds',
    file: 'src/lan/ethernet-switch.ts',
    from: '    for (const { frameId, frame } of machine.kept.all()) {',
    to: '    for (const { frameId, frame } of machine.kept.all().slice(0, 0)) {',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'keeps inbound frames while no replica is connected, and delivers them at the next bind',
    },
  },
  {
    name: 'an older generation binds the MAC back',
    file: 'src/lan/machine-port.ts',
    from: "    if (request.generation < binding.generation) return 'stale-generation'\n",
    to: '',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'belongs to the highest generation; the old replica is told, and its outputs reach nobody',
    },
  },
  {
    name: 'a replica that binds again says of frames which it merely received that they are covered',
    file: 'src/lan/machine-place.ts',
    from: 'const [coveredFrameId, receivedFrameId] = [this.#coveredFrameId, this.#receivedFrameId]',
    to: 'const [coveredFrameId, receivedFrameId] = [this.#receivedFrameId, this.#receivedFrameId]',
    noticedBy: {
      file: 'src/host/lan-backend.test.ts',
      test: 'a connection that broke, to a switch that lives: no frame is lost in either direction, and none comes twice',
    },
  },
  {
    name: 'a switch delivers again what the replica has from its connection before',
    file: 'src/lan/ethernet-switch.ts',
    from: '      if (frameId <= request.receivedFrameId) continue\n',
    to: '',
    noticedBy: {
      file: 'src/host/lan-backend.test.ts',
      test: 'a connection that broke, to a switch that lives: no frame is lost in either direction, and none comes twice',
    },
  },
]
