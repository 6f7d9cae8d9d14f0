/** Starts the processes of a VM, in a session of their own. Ends with `up`. */

import { leadSession } from '../vm-session.ts'

leadSession()
