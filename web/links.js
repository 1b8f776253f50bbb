/**
 * The links of a LiteGraph graph, through subgraphs, reroutes and bypassed nodes. Changes nothing.
 * They are read from the graph: what a slot says of its links is deprecated, and a node without a graph has none.
 */

export const MUTED = 2
export const BYPASSED = 4
const SUBGRAPH_INPUT = -10
const SUBGRAPH_OUTPUT = -20
const PRIMITIVES = ['PrimitiveNode', 'PrimitiveInt', 'PrimitiveFloat', 'PrimitiveBoolean', 'PrimitiveString']

/** @typedef {{ node: any, slot: number }} Place an input or output of a node */

const same = (id, other) => String(id) === String(other)

const linksOf = (graph) => [...(graph?.links?.values() ?? [])]

const linkInto = (graph, id, slot) =>
  linksOf(graph).find((link) => same(link.target_id, id) && link.target_slot === slot)

const linksOutOf = (graph, id, slot) =>
  linksOf(graph).filter((link) => same(link.origin_id, id) && link.origin_slot === slot)

const nodeOf = (graph, id) => graph?.getNodeById?.(id) ?? null

export const widgetOf = (node, name) =>
  node.widgets?.find((widget) => widget.name === name)

/** Every graph under a root, the root first. */
function graphsUnder(root) {
  return [root, ...(root?.subgraphs?.values?.() ?? [])]
}

/** The nodes that stand for a subgraph. */
function instancesOf(subgraph, root) {
  return graphsUnder(root).flatMap((graph) =>
    (graph.nodes ?? graph._nodes ?? []).filter((node) => node.subgraph === subgraph)
  )
}

/** How a node runs: its own mode, or that of a subgraph's node around it. */
export function modeOf(node, root) {
  for (let at = node; at; [at] = instancesOf(at.graph, root))
    if (at.mode === MUTED || at.mode === BYPASSED) return at.mode
  return 0
}

/** @returns {Place | null} where the slot of an input gets its link from inside a bypassed node */
function passedOn(node, slot) {
  const { type } = node.outputs[slot]
  const inputs = node.inputs ?? []
  const twin = inputs[slot]?.type === type ? slot : inputs.findIndex((input) => input.type === type)
  return twin < 0 ? null : { node, slot: twin }
}

const isThrough = (node) => node.mode === BYPASSED || node.type === 'Reroute'

/** The inputs that a link leads to, through the walls of subgraphs. */
function placesOf(graph, link, root) {
  if (same(link.target_id, SUBGRAPH_OUTPUT))
    return instancesOf(graph, root).flatMap((node) => outputPlaces(node, link.target_slot, root))
  const node = nodeOf(graph, link.target_id)
  if (!node || node.mode === MUTED) return []
  if (!node.subgraph || isThrough(node)) return [{ node, slot: link.target_slot }]
  return linksOutOf(node.subgraph, SUBGRAPH_INPUT, link.target_slot).flatMap((inner) =>
    placesOf(node.subgraph, inner, root)
  )
}

/**
 * @param {any} node
 * @param {number} slot of an output
 * @param {any} root the outermost graph
 * @returns {Place[]} the inputs that it feeds
 */
export function outputPlaces(node, slot, root) {
  return linksOutOf(node.graph, node.id, slot).flatMap((link) => placesOf(node.graph, link, root))
}

/**
 * What feeds an input: the output of a node, or the input of the subgraph's own node where the link comes from outside
 * and nothing is connected there.
 * @param {any} node
 * @param {number} slot of an input
 * @param {any} root the outermost graph
 * @returns {{ node: any, slot?: number, input?: any } | null}
 */
export function feederOf(node, slot, root, depth = 0) {
  const link = slot < 0 || depth > 100 ? null : linkInto(node.graph, node.id, slot)
  if (!link) return null
  if (same(link.origin_id, SUBGRAPH_INPUT)) {
    const [outer] = instancesOf(node.graph, root)
    const input = outer?.inputs?.[link.origin_slot]
    if (!input) return null
    return feederOf(outer, link.origin_slot, root, depth + 1) ?? { node: outer, input }
  }
  return innermost(nodeOf(node.graph, link.origin_id), link.origin_slot, root, depth + 1)
}

/** What really gives an output: a node inside a subgraph, or what comes before a reroute or a bypassed node. */
function innermost(node, slot, root, depth) {
  if (!node || depth > 100) return null
  if (isThrough(node)) {
    const place = node.type === 'Reroute' ? { node, slot: 0 } : passedOn(node, slot)
    return place && feederOf(place.node, place.slot, root, depth)
  }
  if (!node.subgraph) return { node, slot }
  const link = linkInto(node.subgraph, SUBGRAPH_OUTPUT, slot)
  return link ? innermost(nodeOf(node.subgraph, link.origin_id), link.origin_slot, root, depth + 1) : null
}

/** The number of an input, -1 where there is none. */
export const slotOf = (node, name) =>
  node.inputs?.findIndex((slot) => (slot.widget?.name ?? slot.name) === name) ?? -1

export const slotOfType = (node, type) =>
  node.inputs?.findIndex((slot) => slot.type === type) ?? -1

/** Whether an input has a link. */
export const isLinked = (node, name) =>
  linkInto(node.graph, node.id, slotOf(node, name)) !== undefined

/**
 * The value of a widget, or of whatever is linked to it: a node with a value of that kind, or the widget by which a
 * subgraph shows this one.
 * @param {any} node
 * @param {string} name
 * @param {any} root the outermost graph
 */
export function valueAt(node, name, root) {
  const own = widgetOf(node, name)?.value
  const feeder = feederOf(node, slotOf(node, name), root)
  if (!feeder) return own
  if (feeder.input) return shownValue(feeder)
  const fits =
    typeof own === 'string' ? (value) => typeof value === 'string' : Number.isInteger
  return feeder.node.widgets?.find(({ value }) => fits(value))?.value
}

const shownValue = ({ node, input }) =>
  widgetOf(node, input.widget?.name ?? input.name)?.value

/**
 * The value that an input has when it runs, and the node that holds it.
 * @returns {{ value: any, node: any }} the value is null where it is worked out in the run
 */
export function valueFor(node, name, root) {
  const feeder = feederOf(node, slotOf(node, name), root)
  if (!feeder) return { value: isLinked(node, name) ? null : (widgetOf(node, name)?.value ?? null), node }
  if (feeder.input) return { value: shownValue(feeder) ?? null, node: feeder.node }
  const known = PRIMITIVES.includes(feeder.node.type) && feeder.node.widgets?.[0]
  return { value: known ? known.value : null, node: feeder.node }
}
