/** What things are called in every simulation. */

export const machineName = 'vm'
export const token = 'token'
export const exportName = 'disk0'
export const replicaNames = ['a', 'b', 'c', 'd'] as const
export const diskHost = 'disk'
export const lanHost = 'lan'
