/** Where downloads, fetched tools and built guests are kept, outside any repository. The user may delete it any time. */

import { homedir } from 'node:os'
import { join } from 'node:path'

/** `$XDG_CACHE_HOME/understudy`, by default `~/.cache/understudy`. */
export function defaultCacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME
  return join(base?.startsWith('/') ? base : join(homedir(), '.cache'), 'understudy')
}
