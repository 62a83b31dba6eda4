// Many clients of a stream in one process, on raw sockets: it must take less time than the server that it measures.
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { offer } from '../channel.js'
import { MARK, MARK_BYTES, now, numberIn } from '../marks.js'

interface Connect {
  url: string
  path: string
  count: number
  /** The time of receipt is kept for each mark of every n-th client; the others only count. */
  sampleEvery: number
}

const CONNECTING_AT_ONCE = 100
const READ_BYTES = 256 * 1024
/** All sockets read into the same memory: what arrives is looked at and dropped. */
const memory = Buffer.allocUnsafe(READ_BYTES)

const sockets: Socket[] = []
/** Receipts in all, and since when nothing more is due. */
let received = 0
let due = Number.POSITIVE_INFINITY
let reached: () => void = () => {}
let numbers: number[] = []
let times: number[] = []
let broken = 0

offer({
  calls: {
    /** Opens clients; resolves with the milliseconds until all have been answered with 200. */
    connect: async ({ url, path, count, sampleEvery }: Connect) => {
      const began = performance.now()
      for (let opened = 0; opened < count; opened += CONNECTING_AT_ONCE) {
        const wave = Math.min(CONNECTING_AT_ONCE, count - opened)
        await Promise.all(
          Array.from({ length: wave }, (_, at) => open(url, path, (opened + at) % sampleEvery === 0)),
        )
      }
      return performance.now() - began
    },
    /** Opens clients all at once, and resolves with the milliseconds until they have received so much in all. */
    storm: async ({ url, path, count, total }: Omit<Connect, 'sampleEvery'> & { total: number }) => {
      begin(total)
      const began = performance.now()
      await Promise.all(Array.from({ length: count }, () => open(url, path, false)))
      await settle(120_000)
      return { milliseconds: performance.now() - began, received }
    },
    /** Counts from nothing; `settled` waits for so many receipts in all. */
    begin: async (total: number) => begin(total),
    settled: async (timeoutMs: number) => {
      await settle(timeoutMs)
      return { received, broken, numbers, times }
    },
    disconnect: async () => {
      for (const socket of sockets.splice(0)) socket.destroy()
    },
  },
  close: async () => {
    for (const socket of sockets) socket.destroy()
  },
})

function begin(total: number): void {
  received = 0
  broken = 0
  due = total
  numbers = []
  times = []
}

async function settle(timeoutMs: number): Promise<void> {
  if (received >= due) return
  const all = new Promise<void>((resolve) => {
    reached = resolve
  })
  await Promise.race([all, delay(timeoutMs, undefined, { ref: false })])
}

function open(url: string, path: string, sampled: boolean): Promise<void> {
  const { hostname, port, host } = new URL(url)
  return new Promise((answered, failed) => {
    /** The end of what was read last, when a mark may go on in what comes next. */
    let rest = Buffer.alloc(0)
    let open = false
    const onBytes = (length: number): boolean => {
      let bytes: Buffer = memory.subarray(0, length)
      if (!open) {
        const head = bytes.subarray(0, 12).toString('latin1')
        if (head !== 'HTTP/1.1 200') failed(new Error(`${url}${path} answered ${head}`))
        open = true
        answered()
      }
      if (rest.length > 0) bytes = Buffer.concat([rest, bytes])
      const time = sampled ? now() : 0
      let at = bytes.indexOf(MARK)
      while (at !== -1 && at + MARK_BYTES <= bytes.length) {
        received++
        if (sampled) {
          numbers.push(numberIn(bytes, at))
          times.push(time)
        }
        at = bytes.indexOf(MARK, at + MARK_BYTES)
      }
      // An event ends with a line end, and so does nearly everything that is read at once.
      const whole = bytes[bytes.length - 1] === 10
      rest = whole
        ? rest.subarray(0, 0)
        : Buffer.from(bytes.subarray(Math.max(at, bytes.length - MARK_BYTES + 1)))
      if (received >= due) reached()
      return true
    }
    const socket = connect({
      host: hostname,
      port: Number(port),
      onread: { buffer: memory, callback: onBytes },
    })
    sockets.push(socket)
    socket.on('error', failed)
    socket.once('close', () => broken++)
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nAccept: text/event-stream\r\n\r\n`)
  })
}
