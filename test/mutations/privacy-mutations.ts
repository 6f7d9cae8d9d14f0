/** Every lock on the connections between processes, taken off: a stranger gets nothing, and keeps nobody out. */

import type { Mutation } from './mutations.ts'

const transport = 'src/net/transport.test.ts'
const nbdTls = 'src/disk/nbd-tls.test.ts'

export const privacyMutations: readonly Mutation[] = [
  {
    name: 'TCP without a key listens all the same',
    file: 'src/net/address.ts',
    from: '  if (key) return key\n  throw',
    to: '  if (key || true) return key\n  throw',
    noticedBy: { file: transport, test: 'TCP without a key neither listens nor connects' },
  },
  {
    name: 'a key counts under any name',
    file: 'src/net/secure-socket.ts',
    from: '(identity === key.identity ? key.secret : null)',
    to: '(identity === key.identity ? key.secret : key.secret)',
    noticedBy: {
      file: transport,
      test: 'a peer with another key, or the same under another name, is turned away, and told apart from a broken cable',
    },
  },
  {
    name: 'a client takes a certificate for the key',
    file: 'src/net/secure-socket.ts',
    from: "    checkServerIdentity: () => new Error('it shows a certificate instead of having the key'),\n",
    to: '    rejectUnauthorized: false,\n',
    noticedBy: {
      file: transport,
      test: 'a client refuses a server that has another key, shows a certificate, or speaks no TLS',
    },
  },
  {
    name: 'a stranger may take for ever',
    file: 'src/net/listener.ts',
    from: 'const handshakeTimeoutMs = 5_000',
    to: 'const handshakeTimeoutMs = 2 ** 31 - 1',
    noticedBy: { file: transport, test: 'who does not finish the handshake within 5 s is closed' },
  },
  {
    name: 'strangers that fill the room keep a peer out',
    file: 'src/net/listener.ts',
    from: "first?.('too many strangers came after it')",
    to: 'return socket.destroy()',
    noticedBy: { file: transport, test: 'a flood of strangers keeps no peer out, and fills no trace' },
  },
  {
    name: 'each stranger gets a line of trace',
    file: 'src/net/stranger-trace.ts',
    from: '    if (this.#timer) {\n',
    to: '    if (!this.#trace) {\n',
    noticedBy: { file: transport, test: 'of a burst of strangers the trace names the first and counts the rest' },
  },
  {
    name: 'a unix socket is open to everybody for a moment',
    file: 'src/net/listen.ts',
    from: 'process.umask(0o177)',
    to: 'process.umask()',
    noticedBy: {
      file: transport,
      test: 'a unix socket is for its owner only, from the moment it exists; other files keep their umask',
    },
  },
  {
    name: 'a key file that others can read is used',
    file: 'src/net/shared-key.ts',
    from: '(mode & 0o077) !== 0',
    to: '(mode & 0o007) !== 0',
    noticedBy: {
      file: 'src/net/shared-key.test.ts',
      test: 'a key file that others can read is refused, with the command that helps',
    },
  },
  {
    name: 'the disk is served before STARTTLS',
    file: 'src/disk/nbd-server-session.ts',
    from: '    if (this.#needsTls) this.#onPlainOption(',
    to: '    if (this.#needsTls && option === wire.Option.startTls) this.#onPlainOption(',
    noticedBy: {
      file: nbdTls,
      test: 'before STARTTLS every option is answered that TLS is required, and an export name by the end',
    },
  },
  {
    name: 'what came in plain text behind STARTTLS counts as said inside TLS',
    file: 'src/disk/nbd-server-session.ts',
    from: "        if (this.#queue.length > 0) throw malformed('it sent more before TLS began')\n",
    to: '',
    noticedBy: {
      file: nbdTls,
      test: 'what was pipelined behind STARTTLS in plain text is not heard inside TLS: the connection ends',
    },
  },
  {
    name: 'a client goes on in plain text with a server that has no TLS',
    file: 'src/disk/nbd-client-session.ts',
    from: "    if (type !== wire.OptionReply.ack) throw malformed('it does not offer TLS, which TCP needs')\n",
    to: "    if (type !== wire.OptionReply.ack) { this.#state = 'structuredReply'; events.push({ kind: 'send', bytes: wire.encodeOption(wire.Option.structuredReply) }); return }\n",
    noticedBy: {
      file: nbdTls,
      test: 'a client tells nothing to a server that has no TLS, or says more before it begins',
    },
  },
]
