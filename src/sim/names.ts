/** What things are called in every simulation. */

export const machineName = 'vm'
export const token = 'token'
export const exportName = 'disk0'
export const replicaNames = ['a', 'b', 'c', 'd'] as const
export const diskHost = 'disk'
export const lanHost = 'lan'

/** Of a disk of which each replica has its own copy: the export of this one's, and where its server listens, on its host. */
export function copyName(replica: string): string {
  return `${exportName}-${replica}`
}

export function copyAddress(replica: string): string {
  return `disk-${replica}`
}
