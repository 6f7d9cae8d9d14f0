/**
 * What a built guest consists of: its inputs, every package with its version and SHA-256, and the three artefacts with
 * theirs. The manifest lies beside the artefacts as `manifest.json`, so a guest can be checked with `sha256sum`.
 */

import { WorldError } from '../base/assert.ts'
import type { PackageRecord } from './private-apt.ts'

export type GuestFlavour = 'minimal' | 'systemd'

/** What decides a guest's bytes, beside the versions that the mirror holds. */
export interface GuestInputs {
  readonly suite: string
  readonly flavour: GuestFlavour
  /** As the user named them, sorted, each once. */
  readonly packages: readonly string[]
  readonly rootSizeBytes: number
  readonly authorizedKeys: readonly string[]
  /** SHA-256 of the builder's own source: another recipe makes another guest. */
  readonly builder: string
}

export interface Artefact {
  readonly fileName: string
  readonly sizeBytes: number
  /** Of the artefact itself. */
  readonly sha256: string
  /** Of the compressed form that the cache keeps. */
  readonly compressedSha256: string
}

export const artefactNames = ['kernel', 'initrd', 'root'] as const
export type ArtefactName = (typeof artefactNames)[number]

export const artefactFiles: Readonly<Record<ArtefactName, string>> = {
  kernel: 'Image',
  initrd: 'initrd.cpio',
  root: 'root.ext4',
}

const manifestVersion = 1

export interface GuestManifest {
  readonly version: typeof manifestVersion
  readonly inputs: GuestInputs
  readonly kernelVersion: string
  readonly packages: readonly PackageRecord[]
  readonly artefacts: Readonly<Record<ArtefactName, Artefact>>
}

export function createManifest(parts: Omit<GuestManifest, 'version'>): GuestManifest {
  return { version: manifestVersion, ...parts }
}

export function encodeManifest(manifest: GuestManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`
}

/** Throws `manifest-damaged` unless the text is a manifest of this version with all its artefacts. */
export function decodeManifest(text: string): GuestManifest {
  const damaged = new WorldError(
    'manifest-damaged',
    'the guest manifest is damaged or of another version: build the guest again',
  )
  let manifest: Partial<GuestManifest>
  try {
    manifest = JSON.parse(text)
  } catch {
    throw damaged
  }
  if (manifest?.version !== manifestVersion || !manifest.inputs || typeof manifest.kernelVersion !== 'string')
    throw damaged
  if (!Array.isArray(manifest.packages)) throw damaged
  for (const name of artefactNames) {
    const artefact = manifest.artefacts?.[name]
    const isWhole =
      artefact?.fileName === artefactFiles[name] &&
      Number.isSafeInteger(artefact.sizeBytes) &&
      /^[0-9a-f]{64}$/.test(artefact.sha256) &&
      /^[0-9a-f]{64}$/.test(artefact.compressedSha256)
    if (!isWhole) throw damaged
  }
  return manifest as GuestManifest
}
