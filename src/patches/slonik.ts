/** What slonik's driver (@slonik/pg-driver 49.10.9) lacks. It has no options for either, so both concern every client of pg in this process. */
import { Client, defaults } from 'pg'

/**
 * The driver reads the types over a client of its own and does not listen to its errors. A session that PostgreSQL ends between two
 * answers would end the process. A statement that waits for an answer is rejected all the same.
 * It can go when the driver listens to that client.
 */
const { connect } = Client.prototype
Client.prototype.connect = function (this: Client, ...args: Parameters<typeof connect>) {
  this.on('error', () => {})
  return connect.apply(this, args)
} as typeof connect

/**
 * Bounds the wait for PostgreSQL's answer, which the driver cannot: it does not pass `query_timeout` on to pg. It is the default of every
 * client that names no `query_timeout`. It can go when slonik has an option for it.
 */
export function boundAnswers(timeoutMs: number): void {
  defaults.query_timeout = timeoutMs
}
