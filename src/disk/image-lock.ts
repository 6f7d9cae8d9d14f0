/**
 * One disk server per image and per arbiter folder: two would each have a fence of their own, and fence nothing.
 *
 * The lock is a socket in Linux's abstract namespace, named after device and inode. The kernel gives it to one process
 * and takes it back when that process is gone, however it died; and since it is freed with the last of the process's
 * threads, a new server cannot start while a write of a killed one is still in the kernel. (Node's io_uring use is off by
 * default; it would break that last sentence.) Elsewhere than on Linux there is no lock.
 */

import { createServer, type Server } from 'node:net'
import { ExitCode, WorldError } from '../base/assert.ts'

export class ImageLock {
  readonly #server: Server | undefined

  private constructor(server: Server | undefined) {
    this.#server = server
  }

  /**
   * @param identity device and inode
   * @param what names the thing in the error line
   */
  static async take(identity: string, what: string): Promise<ImageLock> {
    if (process.platform !== 'linux') return new ImageLock(undefined)
    const server = createServer((socket) => socket.destroy())
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        const message = `${what} is in use by another disk server: stop that one first (${error.message})`
        reject(new WorldError('image-in-use', message, ExitCode.badConfiguration))
      })
      server.listen(`\0understudy-disk-${identity}`, resolve)
    })
    server.unref()
    return new ImageLock(server)
  }

  async release(): Promise<void> {
    const server = this.#server
    if (server) await new Promise<void>((resolve) => server.close(() => resolve()))
  }
}
