/** A benchmark that is ended (Ctrl-C, a time-out) leaves no machine behind: the processes of a VM live on by themselves. */

export function endCleanly(cleanUp: () => Promise<void>): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void cleanUp().finally(() => process.exit(1)))
  }
}
