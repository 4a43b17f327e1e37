/** Client of Auth, which checks email and password (wire contract, "Downstreams"). */
import { z } from 'zod'
import { detailOf, NoAnswer, type Downstream } from './http.ts'

/** `accessToken` is as Auth issued it, not verified. */
export type Login = { login: 'accepted'; accessToken: string } | { login: 'refused' }

export interface Auth {
  /** @throws NoAnswer if Auth is unreachable, too slow or answers anything else. Its message has neither email nor password */
  login(email: string, password: string): Promise<Login>
}

const tokens = z.object({ access_token: z.string().min(1) })

/** Auth's statuses for wrong or malformed credentials. Any other status is a fault of Auth. */
const refusals = new Set([400, 401, 403, 422])

export function createAuth(downstream: Downstream): Auth {
  return {
    async login(email, password) {
      const answer = await downstream.call({ name: 'login', method: 'POST', path: '/auth/login', body: { email, password } })
      if (refusals.has(answer.status)) return { login: 'refused' }
      const read = answer.status === 200 ? tokens.safeParse(answer.body) : undefined
      if (!read?.success) throw new NoAnswer(`auth login: ${detailOf(answer)}`, { sent: true, settlesAt: performance.now() })
      return { login: 'accepted', accessToken: read.data.access_token }
    },
  }
}
