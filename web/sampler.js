/** Finds the model before a node and the samplers behind it, in a LiteGraph graph. Changes nothing. */
import {
  BYPASSED, feederOf, modeOf, outputPlaces, slotOfType, valueAt
} from './links.js'

const CARRIERS = ['MODEL', 'GUIDER', '*']
const NODE = 'LeMiCa'

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
  const origin = feederOf(node, slotOfType(node, 'SIGMAS'), root)?.node
  if (!origin || depth > 8) return null
  return ownSteps(origin, root) ?? scheduledSteps(origin, root, depth + 1)
}

/** The steps of a sampler, null for any other node; a scheduler gets the model as well, and gives sigmas. */
const stepsOf = (node, root) =>
  node.outputs?.some(({ type }) => type === 'SIGMAS')
    ? null
    : (ownSteps(node, root) ?? scheduledSteps(node, root))

const modelTargets = (node, root) => [
  ...new Set(
    (node.outputs ?? []).flatMap((output, slot) =>
      CARRIERS.includes(output.type) ? outputPlaces(node, slot, root).map((place) => place.node) : []
    )
  )
]

/**
 * The samplers that get the model of a node, the nearest first.
 * @param {any} start a node with a MODEL output
 * @param {any} root the outermost graph
 * @returns {{ samplers: any[], covered: boolean }} covered: only other LeMiCa nodes get it, and the last one counts
 */
export function samplersBehind(start, root) {
  const seen = new Set([start])
  const samplers = []
  let covered = false
  for (let reached = modelTargets(start, root); reached.length; ) {
    const fresh = [...new Set(reached)].filter((node) => !seen.has(node))
    reached = []
    for (const node of fresh) {
      seen.add(node)
      const on = node.mode !== BYPASSED
      if (on && node.type === NODE) covered = true
      else if (on && stepsOf(node, root) !== null) samplers.push(node)
      else reached.push(...modelTargets(node, root))
    }
  }
  return { samplers, covered: covered && !samplers.length }
}

/**
 * The steps of the nearest sampler behind a node.
 * @param {any} start a node with a MODEL output
 * @param {any} root the outermost graph
 * @returns {number | null} null where no sampler follows
 */
export function samplerSteps(start, root) {
  const [sampler] = samplersBehind(start, root).samplers
  return sampler ? stepsOf(sampler, root) : null
}

/** Why a LeMiCa node does nothing in a run, as a word; empty where it works. */
export function idleWord(node, root) {
  const mode = modeOf(node, root)
  if (mode) return mode === BYPASSED ? 'bypassed' : 'muted'
  return samplersBehind(node, root).covered ? 'covered' : ''
}

const FILE = /\.(safetensors|sft|ckpt|pt|pth|bin|gguf)$/i

/**
 * The nodes that a model comes through to a node, the nearest first and the loader last.
 * @param {any} node
 * @param {any} root the outermost graph
 */
export function modelPath(node, root) {
  const path = []
  for (let at = node; at; ) {
    const feeder = feederOf(at, slotOfType(at, 'MODEL'), root)
    at = feeder && !feeder.input && !path.includes(feeder.node) ? feeder.node : null
    if (at) path.push(at)
  }
  return path
}

/**
 * Names the model that a node gets: the loader at the beginning of its MODEL links, and the files that it loads.
 * @param {any} node
 * @param {any} root the outermost graph
 * @returns {string} empty where nothing is connected
 */
export function modelName(node, root) {
  const loader = modelPath(node, root).at(-1)
  if (!loader) return ''
  const files = (loader.widgets ?? [])
    .map(({ value }) => value)
    .filter((value) => typeof value === 'string' && FILE.test(value))
  return [loader.type, ...files].join(' ')
}
