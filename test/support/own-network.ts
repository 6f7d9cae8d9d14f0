/**
 * Runs a test file again in a network (and mount) namespace of its own, where it may make bridges and TAPs as it likes.
 * Needs no root where user namespaces are allowed.
 *
 *   const network = ownNetwork()
 *   if (network.isInside) test('a rule', …)
 *   else test('the rules of TAPs, in a network of their own', { skip: network.skip }, () => network.run(import.meta.filename))
 */

import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const insideVariable = 'UNDERSTUDY_TEST_OWN_NETWORK'
// Without IPv6: its neighbour discovery would mix frames of the kernel's into those of the tests.
const setUp =
  'mount -t sysfs own /sys && echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 && ip link set lo up && exec "$0" "$@"'

export interface OwnNetwork {
  readonly isInside: boolean
  /** Why this host cannot make one. */
  readonly skip: string | false
  /** Runs the file's tests inside; fails with their report if one of them does. @returns the report */
  run(file: string): Promise<string>
}

/** @param needsTap default true; otherwise `whyNoTap` tells, inside, whether there can be one */
export function ownNetwork({ needsTap = true } = {}): OwnNetwork {
  const isInside = process.env[insideVariable] !== undefined
  // Root stays root: it may then play other users. Others become root of a user namespace.
  const flags = process.getuid?.() === 0 ? '-nm' : '-rnm'
  return {
    isInside,
    skip: !isInside && (whyNoNetwork(flags) || (needsTap && whyNoTap(flags))),
    run: (file) => runInside(flags, file),
  }
}

function whyNoNetwork(flags: string): string | false {
  if (spawnSync('ip', ['-V']).error) return 'needs ip (package iproute2)'
  const { status, error } = spawnSync('unshare', [flags, 'sh', '-c', setUp, 'true'])
  return (error || status !== 0) && 'this host makes no network namespaces for this user'
}

/** Why this user gets no TAP, in a network of its own (inside: in another one). */
export function whyNoTap(flags = '-n'): string | false {
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun (modprobe tun)'
  const { status } = spawnSync('unshare', [flags, 'ip', 'tuntap', 'add', 'dev', 'tap0', 'mode', 'tap'])
  return status !== 0 && 'this user may not open /dev/net/tun'
}

async function runInside(flags: string, file: string): Promise<string> {
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env
  const inner = spawn('unshare', [flags, 'sh', '-c', setUp, process.execPath, '--test-reporter=spec', file], {
    env: { ...environment, [insideVariable]: '1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let report = ''
  inner.stdout.setEncoding('utf8').on('data', (text: string) => {
    report += text
  })
  const code = await new Promise((resolve) => inner.once('close', resolve))
  assert.equal(code, 0, `inside:\n${report}`)
  return report
}

/** Runs `ip` (or another program) in this network. */
export function sh(command: string): string {
  return execFileSync('/bin/sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
}
