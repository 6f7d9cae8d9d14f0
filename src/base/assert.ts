/**
 * Two kinds of failure, never mixed (ARCHITECTURE, invariant 11).
 *
 * A broken invariant is our bug: `assert` stops the replica with its state. Bad input from the world (a guest, a peer,
 * a file, an operator) is a `WorldError`: it has a stable code, a sentence a person can act on, and an exit code.
 */

export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** Assertions stay on in production: a wrong replica is worse than a stopped one. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** Marks the branch that a closed union type makes unreachable. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`)
}

/** Process exit codes, as `understudy --help` lists them. */
export const ExitCode = {
  ok: 0,
  failure: 1,
  usage: 2,
  noSuchVm: 3,
  wrongState: 4,
  timedOut: 5,
  notProtected: 6,
  lostArbitration: 7,
  divergence: 8,
  guestPanicked: 9,
  diskOrArbiterUnreachable: 69,
  permission: 77,
  badConfiguration: 78,
  ownFailureOfBareProgram: 125,
} as const

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

/** The world's fault: one clear line that says what is wrong and what to do. Never a stack trace for the user. */
export class WorldError extends Error {
  override readonly name = 'WorldError'
  readonly code: string
  readonly exitCode: ExitCode

  /**
   * @param code stable, kebab-case, for scripts and tests (`image-truncated`)
   * @param message what is wrong, then what to do
   */
  constructor(code: string, message: string, exitCode: ExitCode = ExitCode.failure) {
    super(message)
    this.code = code
    this.exitCode = exitCode
  }
}
