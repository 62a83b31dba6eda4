import type { SyntaxNode } from '@lezer/common'
import { parser } from '@prometheus-io/lezer-promql'

/** What an expression reads: a metric, and the labels that it selects or groups it by. */
export interface Selected {
  metric: string
  labels: string[]
}

/** Grafana's own variables, as something that PromQL can be read with. */
function substituted(expression: string): string {
  return expression
    .replaceAll('$__rate_interval', '5m')
    .replaceAll('$__interval', '1m')
    .replaceAll('$instance', '.*')
}

/** Parses an expression with Prometheus' own grammar. @throws with the place of what is wrong */
export function selectedBy(expression: string): Selected[] {
  const text = substituted(expression)
  const found: Selected[] = []
  parser.parse(text).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`not PromQL at ${node.from}: ${text}`)
      if (node.name !== 'VectorSelector') return
      const metric = node.node.getChild('Identifier')
      if (metric === null) throw new Error(`a selector without a metric at ${node.from}: ${text}`)
      found.push({
        metric: text.slice(metric.from, metric.to),
        labels: textsOf(node.node, 'LabelName', text),
      })
    },
  })
  if (found.length === 0) throw new Error(`no metric in ${text}`)
  return found
}

function textsOf(within: SyntaxNode, name: string, text: string): string[] {
  const texts: string[] = []
  within.cursor().iterate((node) => {
    if (node.from > within.to) return false
    if (node.name === name) texts.push(text.slice(node.from, node.to))
    return undefined
  })
  return texts
}
