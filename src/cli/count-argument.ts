/** Numbers as words of a command line. */

import { InvalidArgumentError } from 'commander'

/** For an option that takes a whole number. */
export function countFrom(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`
  return (text) => {
    const count = Number(text)
    if (!/^\d+$/.test(text) || count < least || count > most) {
      throw new InvalidArgumentError(`write a whole number ${range}`)
    }
    return count
  }
}

/** For an option that takes a number, whole or not: `0.5`. */
export function numberFrom(least: number): (text: string) => number {
  return (text) => {
    if (!/^\d+(\.\d+)?$/.test(text) || Number(text) < least)
      throw new InvalidArgumentError(`write a number from ${least}`)
    return Number(text)
  }
}
