/** Auth: whether a person's email and password are right (wire contract, "Downstreams"). */
import { z } from 'zod'
import { detailOf, NoAnswer, type Downstream } from './http.ts'

/** `accessToken` as Auth issued it: not verified yet. */
export type Login = { login: 'accepted'; accessToken: string } | { login: 'refused' }

export interface Auth {
  /** @throws NoAnswer where Auth cannot be reached, takes too long or says something else. Neither email nor password is in its message */
  login(email: string, password: string): Promise<Login>
}

const tokens = z.object({ access_token: z.string().min(1) })

/** What Auth says of a pair that is not right, or that it cannot even read as one. Anything else is Auth's own trouble. */
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
