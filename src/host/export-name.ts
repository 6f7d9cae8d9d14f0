/** What the disk server calls the n-th disk of a machine. */
export function exportName(disk: number): string {
  return `disk${disk}`
}
