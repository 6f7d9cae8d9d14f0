/**
 * Who decides which replica is live, as configuration files say it:
 *
 *   arbiter = "disk"                                            the disk server's own arbiter (the default)
 *   arbiter = { etcd = ["https://192.0.2.7:2379", …], … }       a cluster of etcd
 *
 * In a VM file it is for all its hosts. In a replica's file it takes that one's place, where paths differ from host to host.
 */

import { z } from 'zod'
import { checkEndpoint, defaultEtcdPrefix, type EtcdSettings } from '../etcd/etcd-settings.ts'
import { convert, resolveBeside } from './config-file.ts'

const endpoint = z.string().transform((text, context) => convert(() => checkEndpoint(text), context))

export const arbiterSchema = z
  .union(
    [
      z.literal('disk'),
      z.strictObject({
        etcd: z.array(endpoint).min(1, 'name its members: ["https://HOST:PORT", …]').describe('members of the cluster'),
        prefix: z.string().min(1).default(defaultEtcdPrefix).describe('what our keys begin with'),
        ca: z.string().optional().describe("certificate of the authority that signed the cluster's"),
        certificate: z.string().optional().describe('our own certificate, where the cluster asks for one'),
        key: z.string().optional().describe('the key of that certificate'),
        user: z.string().optional().describe('a user of etcd, where the cluster has users'),
        password: z.string().optional().describe('a file that holds its password'),
      }),
    ],
    { error: 'write "disk", or { etcd = ["https://HOST:PORT", …] }; http:// is for 127.0.0.1 and localhost only' },
  )
  .describe('who decides which replica is live: "disk", the disk server, or { etcd = ["https://HOST:PORT", …] }')

export type ArbiterFile = z.output<typeof arbiterSchema>

/** The same in a file: what `etcdOf` reads as these settings. */
export function etcdFileOf(settings: EtcdSettings): object {
  const {
    endpoints: etcd,
    prefix,
    caPath: ca,
    certificatePath: certificate,
    keyPath: key,
    user,
    passwordPath,
  } = settings
  return { etcd, prefix, ca, certificate, key, user, password: passwordPath }
}

/** @returns undefined: the disk server's own. Paths are absolute. */
export function etcdOf(file: ArbiterFile, configPath: string): EtcdSettings | undefined {
  if (file === 'disk') return undefined
  const { etcd, prefix, ca, certificate, key, user, password } = file
  const at = (path: string): string => resolveBeside(configPath, path)
  return {
    endpoints: etcd,
    prefix,
    ...(ca === undefined ? {} : { caPath: at(ca) }),
    ...(certificate === undefined ? {} : { certificatePath: at(certificate) }),
    ...(key === undefined ? {} : { keyPath: at(key) }),
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { passwordPath: at(password) }),
  }
}
