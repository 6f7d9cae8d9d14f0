/**
 * What the disk server calls the n-th disk of a machine.
 * @param owner of a disk of which each replica has its own copy: whose
 */
export function exportName(disk: number, owner?: string): string {
  return owner === undefined ? `disk${disk}` : `disk${disk}-${owner}`
}

/** The exports that are this replica's disks. */
export function exportsOf(disks: readonly { readonly isOwn?: boolean }[], replica: string): string[] {
  return disks.map(({ isOwn }, disk) => exportName(disk, isOwn ? replica : undefined))
}
