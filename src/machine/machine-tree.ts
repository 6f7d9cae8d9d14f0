/**
 * The device tree of our machine: what Linux is told about hart, memory and devices, after the bindings of Linux 6.12
 * (Documentation/devicetree/bindings) and in the shape of QEMU's `virt` board.
 */

import { ramBase } from '../engine/types.ts'
import { cells64, encodeDeviceTree, type TreeNode } from './device-tree.ts'
import { firstVirtioLine, lastLine, memoryMap, rtcLine, uartLine, virtioSlotBase } from './memory-map.ts'
import { timebaseHz } from './types.ts'

/** Single letters, then Z-extensions, then S-extensions, as the ISA manual orders them. */
const isaExtensions = ['i', 'm', 'a', 'f', 'd', 'c', 'zicntr', 'zicsr', 'zifencei', 'zkr', 'sstc', 'svadu'] as const

const hartPhandle = 1
const plicPhandle = 2

/** Numbers of hart-local interrupts (privileged ISA, mcause). */
const hartInterrupt = { machineSoftware: 3, machineTimer: 7, supervisorExternal: 9, machineExternal: 11 } as const

export interface TreeOptions {
  readonly ramBytes: number
  readonly bootArguments: string
  /** Where the initrd is; length 0: none. */
  readonly initrd: { readonly address: number; readonly lengthBytes: number }
  /** Drawn for this boot: a constant would give every guest the same keys. */
  readonly rngSeed: Uint8Array
  /** How many virtio slots hold a device; the tree names no empty ones. */
  readonly virtioDevices: number
}

export function machineTree(options: TreeOptions): Uint8Array {
  return encodeDeviceTree({
    name: '',
    properties: {
      '#address-cells': [2],
      '#size-cells': [2],
      compatible: ['understudy,virt', 'riscv-virtio'],
      model: 'understudy',
    },
    children: [chosen(options), memory(options.ramBytes), cpus(), soc(options.virtioDevices)],
  })
}

function chosen({ bootArguments, initrd, rngSeed }: TreeOptions): TreeNode {
  const initrdProperties = {
    'linux,initrd-start': cells64(initrd.address),
    'linux,initrd-end': cells64(initrd.address + initrd.lengthBytes),
  }
  return {
    name: 'chosen',
    properties: {
      bootargs: bootArguments,
      'stdout-path': `/soc/serial@${memoryMap.uart.base.toString(16)}`,
      'rng-seed': rngSeed,
      ...(initrd.lengthBytes > 0 ? initrdProperties : {}),
    },
  }
}

function memory(ramBytes: number): TreeNode {
  return {
    name: `memory@${ramBase.toString(16)}`,
    properties: { device_type: 'memory', reg: [...cells64(ramBase), ...cells64(ramBytes)] },
  }
}

function cpus(): TreeNode {
  const interruptController: TreeNode = {
    name: 'interrupt-controller',
    properties: {
      '#address-cells': [0],
      '#interrupt-cells': [1],
      'interrupt-controller': [],
      compatible: 'riscv,cpu-intc',
      phandle: [hartPhandle],
    },
  }
  const letters = isaExtensions.filter((name) => name.length === 1).join('')
  const words = isaExtensions.filter((name) => name.length > 1)
  return {
    name: 'cpus',
    properties: { '#address-cells': [1], '#size-cells': [0], 'timebase-frequency': [Number(timebaseHz)] },
    children: [
      {
        name: 'cpu@0',
        properties: {
          device_type: 'cpu',
          reg: [0],
          status: 'okay',
          compatible: 'riscv',
          'riscv,isa': `rv64${[letters, ...words].join('_')}`,
          'riscv,isa-base': 'rv64i',
          'riscv,isa-extensions': isaExtensions,
          'mmu-type': 'riscv,sv39',
        },
        children: [interruptController],
      },
    ],
  }
}

function soc(virtioDevices: number): TreeNode {
  const virtio = Array.from({ length: virtioDevices }, (_, slot): TreeNode => {
    const base = virtioSlotBase(slot)
    return device('virtio_mmio', base, memoryMap.virtio.lengthBytes, 'virtio,mmio', firstVirtioLine + slot)
  })
  const uart = device('serial', memoryMap.uart.base, memoryMap.uart.lengthBytes, 'ns16550a', uartLine)
  return {
    name: 'soc',
    properties: { '#address-cells': [2], '#size-cells': [2], compatible: 'simple-bus', ranges: [] },
    children: [
      clint(),
      plic(),
      { ...uart, properties: { ...uart.properties, 'clock-frequency': [3_686_400] } },
      device('rtc', memoryMap.rtc.base, memoryMap.rtc.lengthBytes, 'google,goldfish-rtc', rtcLine),
      ...virtio,
    ],
  }
}

function device(kind: string, base: number, lengthBytes: number, compatible: string, line: number): TreeNode {
  return {
    name: `${kind}@${base.toString(16)}`,
    properties: {
      compatible,
      reg: [...cells64(base), ...cells64(lengthBytes)],
      interrupts: [line],
      'interrupt-parent': [plicPhandle],
    },
  }
}

function clint(): TreeNode {
  const { base, lengthBytes } = memoryMap.clint
  return {
    name: `clint@${base.toString(16)}`,
    properties: {
      compatible: ['sifive,clint0', 'riscv,clint0'],
      reg: [...cells64(base), ...cells64(lengthBytes)],
      'interrupts-extended': [hartPhandle, hartInterrupt.machineSoftware, hartPhandle, hartInterrupt.machineTimer],
    },
  }
}

function plic(): TreeNode {
  const { base, lengthBytes } = memoryMap.plic
  return {
    name: `plic@${base.toString(16)}`,
    properties: {
      compatible: ['sifive,plic-1.0.0', 'riscv,plic0'],
      reg: [...cells64(base), ...cells64(lengthBytes)],
      '#address-cells': [0],
      '#interrupt-cells': [1],
      'interrupt-controller': [],
      'interrupts-extended': [
        hartPhandle,
        hartInterrupt.machineExternal,
        hartPhandle,
        hartInterrupt.supervisorExternal,
      ],
      'riscv,ndev': [lastLine],
      phandle: [plicPhandle],
    },
  }
}
