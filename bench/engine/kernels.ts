/**
 * The bare-metal kernels: programs of our own in C (kernels/), compiled by Debian's cross compiler to one ELF file that
 * runs in M mode on `understudy run --elf` and on QEMU's `virt` board. How much work a kernel does is compiled in, about
 * one to two seconds of QEMU's time.
 */

import { execFile } from 'node:child_process'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { findProgram } from '../../src/guest/command.ts'
import { type Contestant, startBare, type Timing, timeBetweenMarkers } from './contestants.ts'
import type { Work } from './rows.ts'

const compiler = 'riscv64-unknown-elf-gcc'
export const compilerPackage = 'gcc-riscv64-unknown-elf'
const sources = join(import.meta.dirname, 'kernels')
const execute = promisify(execFile)
/** Of an empty loop, on QEMU. A program that has ended says nothing about its CPU time any more. */
const aTenthOfASecond = 100_000_000

/** No libc, and nothing that turns a loop of ours into a library call. */
const compilerOptions = [
  ...['-march=rv64gc', '-mabi=lp64d', '-mcmodel=medany', '-O2', '-Wall', '-Wextra', '-Werror'],
  ...[
    '-ffreestanding',
    '-fno-builtin',
    '-fno-tree-loop-distribute-patterns',
    '-nostdlib',
    '-Wl,--no-warn-rwx-segments',
  ],
]

export interface Kernel extends Work {
  readonly source: string
  readonly rounds: number
  readonly contraction: 'off' | 'fast'
}

function kernel(
  name: string,
  source: string,
  title: string,
  rounds: number,
  options: { readonly isQuick?: boolean; readonly contraction?: 'fast' } = {},
): Kernel {
  const { isQuick = false, contraction = 'off' } = options
  return { group: 'bare', name, title, source, rounds, isQuick, contraction }
}

export const kernels: readonly Kernel[] = [
  kernel('hash', 'hash.c', 'SHA-256 + CRC-32', 300, { isQuick: true }),
  kernel('memory', 'memory.c', 'copy + sort of 8 MiB', 4),
  kernel('bytecode', 'vm.c', 'bytecode VM', 100, { isQuick: true }),
  kernel('calls', 'calls.c', 'fib + Ackermann', 250, { isQuick: true }),
  kernel('float', 'float.c', 'FP', 600, { isQuick: true }),
  kernel('fma', 'float.c', 'FP + FMA', 600, { contraction: 'fast' }),
  kernel('mixed', 'mixed.c', 'CoreMark-like', 8000),
]

export function canCompile(): boolean {
  return findProgram(compiler) !== undefined
}

/** Compiles a kernel into `folder`; returns the ELF's path. A source without a path is one of ours. */
export async function buildKernel(
  { name, source, rounds, contraction }: Pick<Kernel, 'name' | 'source' | 'rounds' | 'contraction'>,
  folder: string,
  lingerRounds = aTenthOfASecond,
): Promise<string> {
  const path = join(folder, name)
  const files = ['start.S', 'kernel.c', source].map((file) => resolve(sources, file))
  await execute(compiler, [
    ...compilerOptions,
    `-ffp-contract=${contraction}`,
    ...[`-DROUNDS=${rounds}`, `-DLINGER=${lingerRounds}`],
    ...[`-I${sources}`, '-T', join(sources, 'kernel.ld'), '-o', path, ...files, '-lgcc'],
  ])
  return path
}

export async function timeKernel(contestant: Contestant, path: string): Promise<Timing> {
  const console = startBare(contestant, path)
  try {
    const timing = await timeBetweenMarkers(console)
    await console.ended()
    return timing
  } finally {
    await console.end('SIGKILL')
  }
}
