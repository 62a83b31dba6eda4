import { connect, type Socket } from 'node:net'

export interface LoadAnswer {
  status: number
  /** Milliseconds until the whole answer was there. */
  ms: number
  head: string
  body: string
}

/**
 * One client: a connection that is kept, with one request at a time. Much lighter than fetch, so that a load takes
 * little of the processor that the server needs.
 */
export class Connection {
  readonly #socket: Socket
  readonly #host: string
  #began = 0
  #text = ''
  #answered: ((answer: LoadAnswer) => void) | undefined
  #failed: ((error: Error) => void) | undefined

  constructor(url: string) {
    const { hostname, port, host } = new URL(url)
    this.#host = host
    this.#socket = connect({ host: hostname, port: Number(port), noDelay: true })
    this.#socket.setEncoding('latin1')
    this.#socket.on('data', (part: string) => this.#read(part))
    this.#socket.on('error', (error) => this.#fail(error))
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed')))
  }

  get closed(): boolean {
    return this.#socket.destroyed
  }

  send(method: string, path: string, body = ''): Promise<LoadAnswer> {
    this.#began = performance.now()
    const type =
      body === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`
    this.#socket.write(`${method} ${path} HTTP/1.1\r\nHost: ${this.#host}\r\n${type}\r\n${body}`)
    return new Promise((resolve, reject) => {
      this.#answered = resolve
      this.#failed = reject
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #read(part: string): void {
    this.#text += part
    const end = this.#text.indexOf('\r\n\r\n')
    if (end < 0) return
    const head = this.#text.slice(0, end)
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0)
    if (this.#text.length < end + 4 + length) return
    const answered = this.#answered
    const body = this.#text.slice(end + 4)
    this.#text = ''
    this.#answered = undefined
    this.#failed = undefined
    answered?.({ status: Number(head.slice(9, 12)), ms: performance.now() - this.#began, head, body })
  }

  #fail(error: Error): void {
    this.#failed?.(error)
    this.#failed = undefined
  }
}
