import { type IncomingMessage, request } from 'node:http'
import type { Draw } from '../random.js'
import type { ClientOptions } from './stream-client.js'

interface Where {
  last: string | undefined
  bogus: { position: string } | undefined
}

/** The request: to any instance, with the position in the header, the parameter, or both. */
export function target({ interest, draw, url }: ClientOptions, { last, bogus }: Where) {
  const { collections } = interest
  const path =
    collections?.length === 1 && draw.chance(0.7)
      ? `/api/v1/stream/${collections[0]}`
      : `/api/v1/stream${collections === undefined ? '' : `?collections=${collections.join(',')}`}`
  const address = new URL(path, url())
  for (const [name, value] of Object.entries(interest.query)) address.searchParams.set(name, value)
  if (interest.snapshot && interest.query.created_after === undefined)
    address.searchParams.set('from', 'snapshot')
  const headers: Record<string, string> = { accept: 'text/event-stream' }
  const position = bogus?.position ?? last
  if (position !== undefined) {
    const way = bogus === undefined ? draw.from(['header', 'header', 'parameter', 'both']) : 'header'
    if (way !== 'parameter') headers['last-event-id'] = position
    // The header wins, so an older position in the parameter must not matter: it is what the page was loaded with.
    if (way === 'parameter') address.searchParams.set('last_event_id', position)
    if (way === 'both') address.searchParams.set('last_event_id', position.replace(/-.*/, '-0'))
  }
  return { url: address, headers }
}

/** A position that leads nowhere, with the reason the server must give for it. */
export function bogusPosition(draw: Draw, epoch: string): { position: string; reason: string } {
  return draw.from([
    { position: 'nonsense', reason: 'unknown' },
    { position: '00000000-5', reason: 'other_log' },
    ...(epoch === 'none' ? [] : [{ position: `${epoch}-900000000000`, reason: 'ahead' }]),
  ])
}

interface Reading {
  url: URL
  headers: Record<string, string>
  signal: AbortSignal
  /** How likely the socket is held back after a piece of the answer. */
  pauseShare(): number
  feed(text: string): void
}

/** Reads one answer to its end, or until the client breaks it off at random, now and then holding the socket back. */
export function read(
  options: ClientOptions,
  { url, headers, signal, pauseShare, feed }: Reading,
): Promise<void> {
  const { draw, tally, onFault } = options
  return new Promise((done) => {
    let ours = false
    let pausing: NodeJS.Timeout | undefined
    const sent = request(url, { headers, agent: false })
    const drop = () => {
      ours = true
      sent.destroy()
    }
    // Most connections live for a while, some are broken at once: before an answer, or in the middle of an event.
    const lifetime = setTimeout(drop, draw.chance(0.15) ? draw.below(30) : 200 + draw.below(4000))
    const end = () => {
      clearTimeout(lifetime)
      clearTimeout(pausing)
      signal.removeEventListener('abort', drop)
      done()
    }
    signal.addEventListener('abort', drop, { once: true })
    if (signal.aborted) drop()
    const onResponse = (response: IncomingMessage) => {
      if (response.statusCode !== 200) {
        if (response.statusCode === 503) tally.refused++
        else onFault(`${url} is answered with ${response.statusCode}`)
        response.resume()
        return
      }
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        if (ours) return
        feed(text)
        if (!draw.chance(pauseShare())) return
        tally.pauses++
        response.pause()
        pausing = setTimeout(() => response.resume(), 50 + draw.below(700))
      })
    }
    sent.on('response', onResponse)
    sent.on('error', () => {})
    sent.on('close', () => {
      if (ours) tally.dropped++
      else tally.broken++
      end()
    })
    sent.end()
  })
}
