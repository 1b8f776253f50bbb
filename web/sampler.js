/** Finds the model before a node and the steps of the sampler behind it, in a LiteGraph graph. Changes nothing. */

const CARRIERS = ['MODEL', 'GUIDER', '*']
const OFF = [2, 4] // muted, bypassed
const SUBGRAPH_INPUT = -10
const SUBGRAPH_OUTPUT = -20

const linkOf = (graph, id) =>
  graph?.getLink?.(id) ?? graph?.links?.get?.(id) ?? graph?.links?.[id]

const nodeOf = (graph, id) => graph?.getNodeById?.(id) ?? null

const widgetOf = (node, name) =>
  node.widgets?.find((widget) => widget.name === name)

/** Every graph under a root, the root first. */
function graphsUnder(root) {
  return [root, ...(root?.subgraphs?.values?.() ?? [])]
}

/** The nodes that stand for a subgraph. */
function instancesOf(subgraph, root) {
  return graphsUnder(root).flatMap((graph) =>
    (graph.nodes ?? graph._nodes ?? []).filter(
      (node) => node.subgraph === subgraph
    )
  )
}

/** Where a link leads, through the walls of subgraphs. */
function targetsOf(graph, linkId, root) {
  const link = linkOf(graph, linkId)
  if (!link) return []
  if (Number(link.target_id) === SUBGRAPH_OUTPUT)
    return instancesOf(graph, root).flatMap((node) =>
      outputTargets(node, link.target_slot, root)
    )
  const node = nodeOf(graph, link.target_id)
  if (!node) return []
  if (!node.subgraph) return [node]
  const inside = node.subgraph.inputs?.[link.target_slot]
  return (inside?.linkIds ?? []).flatMap((id) =>
    targetsOf(node.subgraph, id, root)
  )
}

function outputTargets(node, slot, root) {
  const links = node.outputs?.[slot]?.links ?? []
  return [...links].flatMap((id) => targetsOf(node.graph, id, root))
}

function modelTargets(node, root) {
  return (node.outputs ?? []).flatMap((output, slot) =>
    CARRIERS.includes(output.type) ? outputTargets(node, slot, root) : []
  )
}

/**
 * What feeds an input: a node, or the input of the subgraph's own node where the link comes from outside.
 * @returns {{ node: object, input?: object } | null}
 */
function feederOf(node, input, root) {
  const link = input?.link == null ? null : linkOf(node.graph, input.link)
  if (!link) return null
  if (Number(link.origin_id) === SUBGRAPH_INPUT) {
    const [outer] = instancesOf(node.graph, root)
    const slot = outer?.inputs?.[link.origin_slot]
    return slot ? (feederOf(outer, slot, root) ?? { node: outer, input: slot }) : null
  }
  return innermost(nodeOf(node.graph, link.origin_id), link.origin_slot)
}

/** The node inside a subgraph that feeds one of its outputs. */
function innermost(node, slot) {
  if (!node?.subgraph) return node && { node }
  const [id] = node.subgraph.outputs?.[slot]?.linkIds ?? []
  const link = linkOf(node.subgraph, id)
  return link
    ? innermost(nodeOf(node.subgraph, link.origin_id), link.origin_slot)
    : null
}

const inputOf = (node, name) =>
  node.inputs?.find((slot) => (slot.widget?.name ?? slot.name) === name)

/** Whether the value of a widget comes from another node. */
export const isLinked = (node, name) => inputOf(node, name)?.link != null

/**
 * The value of a widget, or of whatever is linked to it: a node with a value of that kind, or the widget by which a
 * subgraph shows this one.
 * @param {object} node
 * @param {string} name
 * @param {object} root the outermost graph
 */
export function valueAt(node, name, root) {
  const own = widgetOf(node, name)?.value
  const feeder = feederOf(node, inputOf(node, name), root)
  if (!feeder) return own
  if (feeder.input)
    return widgetOf(feeder.node, feeder.input.widget?.name ?? feeder.input.name)?.value
  const fits =
    typeof own === 'string' ? (value) => typeof value === 'string' : Number.isInteger
  return feeder.node.widgets?.find(({ value }) => fits(value))?.value
}

function numberAt(node, name, root) {
  const value = valueAt(node, name, root)
  return Number.isInteger(value) ? value : null
}

/** The steps that a node itself runs, as KSampler, KSampler (Advanced) and the schedulers say it. */
function ownSteps(node, root) {
  const steps = numberAt(node, 'steps', root)
  if (steps === null || steps < 1) return null
  const start = numberAt(node, 'start_at_step', root) ?? 0
  const end = numberAt(node, 'end_at_step', root) ?? steps
  const run = Math.min(end, steps) - start
  return run >= 1 ? run : steps
}

/** The steps of the scheduler before a sampler of custom sampling. */
function scheduledSteps(node, root, depth = 0) {
  const input = node.inputs?.find((slot) => slot.type === 'SIGMAS')
  const origin = feederOf(node, input, root)?.node
  if (!origin || depth > 8) return null
  return ownSteps(origin, root) ?? scheduledSteps(origin, root, depth + 1)
}

/**
 * @param {object} start a node with a MODEL output
 * @param {object} root the outermost graph
 * @returns {number | null} null where no sampler follows
 */
export function samplerSteps(start, root) {
  const seen = new Set([start])
  let reached = modelTargets(start, root)
  while (reached.length) {
    const fresh = [...new Set(reached)].filter((node) => !seen.has(node))
    fresh.forEach((node) => seen.add(node))
    for (const node of fresh) {
      if (OFF.includes(node.mode)) continue
      const steps = ownSteps(node, root) ?? scheduledSteps(node, root)
      if (steps !== null) return steps
    }
    reached = fresh.flatMap((node) => modelTargets(node, root))
  }
  return null
}

const FILE = /\.(safetensors|sft|ckpt|pt|pth|bin|gguf)$/i

/**
 * Names the model that a node gets: the loader at the beginning of its MODEL links, and the files that it loads.
 * @param {object} node
 * @param {object} root the outermost graph
 * @returns {string} empty where nothing is connected
 */
export function modelName(node, root) {
  const seen = new Set()
  let loader = null
  for (let at = node; at && !seen.has(at); ) {
    seen.add(at)
    const input = at.inputs?.find((slot) => slot.type === 'MODEL')
    const feeder = feederOf(at, input, root)?.node
    if (feeder) loader = feeder
    at = feeder
  }
  if (!loader) return ''
  const files = (loader.widgets ?? [])
    .map(({ value }) => value)
    .filter((value) => typeof value === 'string' && FILE.test(value))
  return [loader.type, ...files].join(' ')
}
