/**
 * TLS 1.3 with a pre-shared key around a connected socket, for both sides. The key authenticates both: each side's part of
 * the handshake proves that it has it. A fresh Diffie-Hellman exchange is part of it (RFC 8446, psk_dhe_ke), so whoever
 * learns the key later cannot read what was recorded before.
 *
 * No certificate is ever shown or accepted: a server has none, and a client believes no authority. (Node asks no certificate
 * of a server that has proved itself by the key.)
 */

import type { Socket } from 'node:net'
import { connect, createSecureContext, TLSSocket, type TLSSocketOptions, type TlsOptions } from 'node:tls'
import { WorldError } from '../base/assert.ts'
import type { SharedKey } from './shared-key.ts'

/**
 * A key that comes from outside of TLS goes with SHA-256 (RFC 8446, 4.2.11), which leaves the suites with that hash.
 */
const ciphers = 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256'

/** What `tls.Server` gives each of its sockets; the types know `pskCallback` only there. */
type ServerOptions = TLSSocketOptions & Pick<TlsOptions, 'pskCallback'>

/** No certificate authority is believed. */
const secureContext = createSecureContext({ minVersion: 'TLSv1.3', ciphers, ca: [] })

/**
 * Begins TLS on a connected socket. Both resolve when the other side has proved that it has the key, and reject, with
 * the socket destroyed, when it has not (`WorldError` `key-refused`) or the connection ends first. There is no time limit
 * here.
 */
export function secureAsServer(socket: Socket, key: SharedKey): Promise<Socket> {
  const secured = new TLSSocket(socket, {
    isServer: true,
    secureContext,
    pskCallback: (_, identity) => (identity === key.identity ? key.secret : null),
  } satisfies ServerOptions as TLSSocketOptions)
  return whenSecure(secured, 'secure')
}

export function secureAsClient(socket: Socket, key: SharedKey): Promise<Socket> {
  const secured = connect({
    socket,
    secureContext,
    pskCallback: () => ({ psk: key.secret, identity: key.identity }),
    // Asked only when the server proved itself by a certificate, and not by the key.
    checkServerIdentity: () => new Error('it shows a certificate instead of having the key'),
  })
  return whenSecure(secured, 'secureConnect')
}

function whenSecure(secured: TLSSocket, event: 'secure' | 'secureConnect'): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => {
      secured.destroy()
      const reason = reasonOf(error)
      reject(reason === otherKey || reason === noSuchKey ? new WorldError('key-refused', reason) : new Error(reason))
    }
    const onClose = (): void => onError(new Error('the connection was closed'))
    secured.once('error', onError)
    secured.once('close', onClose)
    // With a half-open socket a peer that only shuts its side would else be waited for.
    secured.once('end', onClose)
    secured.once(event, () => {
      secured.removeListener('error', onError)
      secured.removeListener('close', onClose)
      secured.removeListener('end', onClose)
      resolve(secured)
    })
  })
}

const otherKey = 'it has another key'
const noSuchKey = 'it has no key of this name'

/** A handshake's failure in words for people. */
function reasonOf(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ERR_SSL_BINDER_DOES_NOT_VERIFY':
    case 'ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR':
    case 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE':
    case 'ERR_SSL_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY':
      return otherKey
    case 'ERR_SSL_NO_SHARED_CIPHER':
    case 'ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM':
    case 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE':
      return noSuchKey
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_HTTP_REQUEST':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
    case 'ERR_SSL_UNEXPECTED_MESSAGE':
      return 'it does not speak TLS'
    case 'ERR_SSL_UNSUPPORTED_PROTOCOL':
    case 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION':
      return 'it does not speak TLS 1.3'
    case 'ECONNRESET':
      return 'the connection was closed'
    default:
      return error.code ?? error.message
  }
}
