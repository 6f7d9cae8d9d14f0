/**
 * How many bytes a replica's messages took on the logging channel, over all its connections: heartbeats, acknowledgements
 * and framing included, what TLS and TCP add to them not.
 */

export interface ChannelBytes {
  readonly sent: number
  readonly received: number
}

export class ChannelTraffic {
  #sent = 0
  #received = 0

  get bytes(): ChannelBytes {
    return { sent: this.#sent, received: this.#received }
  }

  onSent(lengthBytes: number): void {
    this.#sent += lengthBytes
  }

  onReceived(lengthBytes: number): void {
    this.#received += lengthBytes
  }
}
