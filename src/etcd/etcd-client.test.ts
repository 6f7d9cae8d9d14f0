/** What the client makes of settings, of TLS and users, and of answers that are lost on the way. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { temporaryFolder } from '../disk/test-disk.ts'
import { EtcdArbiter } from './etcd-arbiter.ts'
import { EtcdClient } from './etcd-client.ts'
import { EtcdCluster, needsEtcd } from './etcd-cluster.test-support.ts'
import { checkEndpoint, type EtcdSettings, readCredentials } from './etcd-settings.ts'

const timeoutMs = 20_000

test('plain http is for this host only, and an endpoint is no more than where a member is', () => {
  for (const good of [
    'http://127.0.0.1:2379',
    'http://localhost:2379',
    'http://[::1]:2379',
    'https://192.0.2.7:2379',
  ]) {
    assert.equal(checkEndpoint(good), good)
  }
  for (const bad of ['http://192.0.2.7:2379', 'http://etcd:2379', 'http://127.0.0.1.example.org:2379']) {
    assert.throws(() => checkEndpoint(bad), { code: 'bad-configuration', message: /plain http is for 127\.0\.0\.1/ })
  }
  for (const bad of ['192.0.2.7:2379', '', 'ftp://127.0.0.1', 'https://etcd:2379/v3', 'https://u:p@etcd:2379']) {
    assert.throws(() => checkEndpoint(bad), { code: 'bad-configuration', message: /write https:\/\/HOST:PORT/ })
  }
})

test('files that are named must be there, and come in pairs', () => {
  const settings = { endpoints: ['https://192.0.2.7:2379'], prefix: 'p/' }
  assert.throws(() => readCredentials({ ...settings, caPath: '/nowhere/ca' }), {
    exitCode: 78,
    message: /^etcd: ca \/nowhere\/ca cannot be read \(ENOENT\)$/,
  })
  const file = join(temporaryFolder(), 'secret')
  writeFileSync(file, 'secret\n')
  assert.throws(() => readCredentials({ ...settings, keyPath: file }), /certificate and key, or neither/)
  assert.throws(() => readCredentials({ ...settings, user: 'u' }), /user and password, or neither/)
  assert.deepEqual(readCredentials({ ...settings, user: 'u', passwordPath: file }).login, {
    name: 'u',
    password: 'secret',
  })
})

test('what answers and is not etcd is told apart from nobody', async (t) => {
  const other = createServer((_, response) => response.end('<html>')).listen(0, '127.0.0.1')
  await new Promise((resolve) => other.once('listening', resolve))
  const endpoint = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
  const client = new EtcdClient({ endpoints: [endpoint], prefix: '' })
  await assert.rejects(client.read(['k'], timeoutMs), { reason: 'protocol', message: /is not etcd's JSON gateway/ })
  await new Promise((resolve) => {
    other.close(resolve)
    other.closeAllConnections()
  })
  const later = new EtcdClient({ endpoints: [endpoint], prefix: '' })
  t.after(() => later.close())
  await assert.rejects(later.read(['k'], 200), { reason: 'unreachable', message: /ECONNREFUSED/ })
  t.after(() => client.close())
})

/** A way to the member on which answers to changes can be lost after they were carried out. */
async function lossyWay(t: TestContext, endpoint: string) {
  let losses = 0
  let lost = 0
  let readToHold: { readonly held: () => void; readonly released: Promise<void> } | undefined
  const proxy = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', async () => {
      const body = Buffer.concat(chunks)
      const answer = await fetch(`${endpoint}${request.url}`, { method: 'POST', body })
      const text = await answer.text()
      if (losses > 0 && body.includes('requestPut')) {
        losses--
        lost++
        response.destroy()
        return
      }
      if (readToHold && request.url === '/v3/kv/txn' && !body.includes('requestPut')) {
        const { held, released } = readToHold
        readToHold = undefined
        held()
        await released
      }
      response.writeHead(answer.status).end(text)
    })
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => proxy.once('listening', resolve))
  t.after(() => {
    proxy.close()
    proxy.closeAllConnections()
  })
  return {
    endpoint: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    /** The answer to the next change is lost. */
    loseNext: () => {
      losses = 1
    },
    /** The answer to the next reading comes only after `work`. */
    overtakeNextRead: async (read: () => Promise<unknown>, work: () => Promise<unknown>) => {
      const [held, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
      readToHold = { held: held.resolve, released: released.promise }
      const reading = read()
      await held.promise
      await work()
      released.resolve()
      await reading
    },
    get lost() {
      return lost
    },
  }
}

test(
  'a change whose answer is lost is carried out once, and its asker is told what it came to',
  needsEtcd,
  async (t) => {
    const cluster = await (await EtcdCluster.start(1)).ready()
    t.after(() => cluster.end())
    const way = await lossyWay(t, cluster.settings.endpoints[0]!)
    const access = (replica: string): EtcdArbiter => {
      const arbiter = new EtcdArbiter({ endpoints: [way.endpoint], prefix: 'p/' }, { machine: 'web', replica })
      t.after(() => arbiter.close())
      return arbiter
    }
    const lossy = async <Answer>(question: () => Promise<Answer>): Promise<Answer> => {
      const before = way.lost
      way.loseNext()
      const answer = await question()
      assert.equal(way.lost, before + 1, 'an answer was lost')
      return answer
    }
    const holder = access('a')
    await holder.connect(timeoutMs)
    assert.deepEqual(await lossy(() => holder.start(timeoutMs)), { granted: true, generation: 1 })
    assert.deepEqual(await lossy(() => holder.setEligible(1, ['b'], timeoutMs)), { accepted: true, generation: 1 })
    assert.deepEqual(await lossy(() => holder.openGeneration(1, ['b'], timeoutMs)), { accepted: true, generation: 2 })
    const backup = access('b')
    assert.deepEqual(await lossy(() => backup.testAndSet(2, timeoutMs)), { won: true, generation: 3 })
    assert.deepEqual(await lossy(() => backup.release(3, timeoutMs)), { accepted: true, generation: 3 })
    assert.deepEqual(await access('w').read(timeoutMs), {
      machine: 'web',
      generation: 3,
      holder: null,
      heldSince: 3,
      takenBy: 'nobody',
      eligible: [],
      spent: [],
    })
  },
)

test('a reading that a change of our own overtakes fences nobody', needsEtcd, async (t) => {
  const cluster = await (await EtcdCluster.start(1)).ready()
  t.after(() => cluster.end())
  const way = await lossyWay(t, cluster.settings.endpoints[0]!)
  let fenced = 0
  const options = { machine: 'web', replica: 'a', onFenced: () => fenced++ }
  const holder = new EtcdArbiter({ endpoints: [way.endpoint], prefix: 'p/' }, options)
  t.after(() => holder.close())
  await holder.start(timeoutMs)
  await way.overtakeNextRead(
    () => holder.read(timeoutMs),
    () => holder.openGeneration(1, ['b'], timeoutMs),
  )
  assert.equal(fenced, 0)
  assert.deepEqual(await holder.openGeneration(2, [], timeoutMs), { accepted: true, generation: 3 })
})

/** An authority made for the test, and what it signs. */
function makeAuthority(folder: string) {
  const at = (name: string): string => join(folder, name)
  const openssl = (...args: string[]): unknown => execFileSync('openssl', args, { stdio: 'ignore' })
  const fresh = ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl(...fresh, '-x509', '-days', '2', '-subj', '/CN=test authority', '-keyout', at('ca.key'), '-out', at('ca.pem'))
  // A member's gateway uses its certificate as a client's, too.
  writeFileSync(at('names'), 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n')
  const sign = (name: string, subject: string): { certificate: string; key: string } => {
    const [request, key, certificate] = [at(`${name}.csr`), at(`${name}.key`), at(`${name}.pem`)]
    openssl(...fresh, '-subj', subject, '-keyout', key, '-out', request)
    const signed = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-extfile', at('names')]
    openssl('x509', '-req', '-days', '2', '-in', request, ...signed, '-out', certificate)
    return { certificate, key }
  }
  return { ca: at('ca.pem'), sign }
}

test(
  'a cluster with TLS, client certificates and users: the arbiter works for who is known, and for nobody else',
  needsEtcd,
  async (t) => {
    const folder = temporaryFolder()
    const { ca, sign } = makeAuthority(folder)
    const { certificate, key } = sign('member', '/CN=etcd')
    const files = ['--cert-file', certificate, '--key-file', key, '--trusted-ca-file', ca, '--client-cert-auth']
    const cluster = await EtcdCluster.start(1, files, 'https')
    t.after(() => cluster.end())
    const own = sign('replica', '/O=understudy')
    const tls = { ...cluster.settings, caPath: ca, certificatePath: own.certificate, keyPath: own.key }
    await cluster.ready(tls)
    const etcdctl = (...args: string[]): unknown =>
      execFileSync(
        'etcdctl',
        ['--endpoints', cluster.settings.endpoints[0]!, '--cacert', ca, '--cert', certificate, '--key', key, ...args],
        {
          env: { ...process.env, ETCDCTL_API: '3' },
          stdio: 'ignore',
        },
      )
    etcdctl('user', 'add', 'root:toor')
    etcdctl('user', 'grant-role', 'root', 'root')
    etcdctl('role', 'add', 'understudy')
    etcdctl('role', 'grant-permission', 'understudy', '--prefix=true', 'readwrite', cluster.settings.prefix)
    etcdctl('user', 'add', 'replica:secret')
    etcdctl('user', 'grant-role', 'replica', 'understudy')
    etcdctl('auth', 'enable')
    const passwordPath = join(folder, 'password')
    writeFileSync(passwordPath, 'secret\n')
    const known = { ...tls, user: 'replica', passwordPath }
    const access = (settings: EtcdSettings): EtcdArbiter => {
      const arbiter = new EtcdArbiter(settings, { machine: 'web', replica: 'a' })
      t.after(() => arbiter.close())
      return arbiter
    }
    assert.deepEqual(await access(known).start(timeoutMs), { granted: true, generation: 1 })
    assert.equal((await access(known).read(timeoutMs)).holder, 'a')
    await assert.rejects(access(tls).read(timeoutMs), { reason: 'denied', exitCode: 77 })
    writeFileSync(join(folder, 'wrong'), 'guess\n')
    await assert.rejects(access({ ...known, passwordPath: join(folder, 'wrong') }).read(timeoutMs), {
      reason: 'denied',
    })
    await assert.rejects(access({ ...known, prefix: 'others/' }).read(timeoutMs), { reason: 'denied' })
    const named = { ...known, certificatePath: certificate, keyPath: key }
    await assert.rejects(access(named).read(timeoutMs), { reason: 'denied', message: /CommonName of client/ })
    await assert.rejects(access(cluster.settings).read(500), { reason: 'unreachable', message: /certificate/ })
  },
)
