/**
 * What the LeMiCa node shows: what it would run, where a run is, what a run did.
 * Pure: knows neither ComfyUI nor the page.
 */

import { withComputed } from './strip.js'

/** @typedef {import('./strip.js').Pattern} Pattern */
/** @typedef {import('./plan.js').Plan} Plan */

/**
 * @typedef {object} RunReport
 * @property {string} schedule
 * @property {string} origin
 * @property {string} note
 * @property {number} steps
 * @property {number[]} computed
 * @property {number | null} speedup
 * @property {string[]} doubts
 * @property {boolean} finished
 */

/**
 * @typedef {object} PanelState
 * @property {Plan | null} plan for the settings of now
 * @property {string} error why there is no plan
 * @property {number[]} chosen the steps that were chosen by hand
 * @property {boolean} editable
 * @property {boolean} known whether the model's family is known
 * @property {keyof typeof IDLE | ''} idle why the node does nothing in a run
 * @property {boolean} misfit the steps that were chosen do not fit: every step computes
 * @property {boolean} several whether other samplers follow than the one that is shown
 * @property {{ schedule: Pattern | null, step: number, steps: number } | null} live
 * @property {{ report: RunReport, schedule: Pattern | null } | null} run the last one
 * @property {boolean} fresh whether that run had the settings of now
 * @property {string} [host] why the node left its model as it is, when it last ran
 */

/**
 * @typedef {object} Panel
 * @property {Pattern | null} pattern
 * @property {number | null} current
 * @property {boolean} editable
 * @property {string} count
 * @property {string} speed
 * @property {'predicted' | 'measured' | ''} speedKind
 * @property {string} name
 * @property {string} origin
 * @property {boolean} byHand
 * @property {string[]} notes
 * @property {string} error
 */

export const UNKNOWN_MODEL =
  'The model gets its own schedule when it first runs.'

export const SEVERAL = 'Several samplers follow: this is the run of the nearest.'

/** What a node that does nothing says, by why: in place of the count, and as its note. */
export const IDLE = {
  bypassed: ['bypassed', 'Every step computes: the node is bypassed.'],
  muted: ['muted', 'Nothing runs: the node is muted.'],
  covered: ['not in use', 'Another LeMiCa node follows, and only the last one before the sampler counts.']
}

const faster = (speedup) => `${speedup.toFixed(2)}× faster`

const counted = ({ computed, steps }) => `${computed.length} of ${steps} steps`

const budgetOf = ({ computed, steps }) => `${computed.length} of ${steps} computed`

/** A note without what stands above it already. */
function shorter(note, { name, origin, steps, computed }) {
  const said = `${name}, ${origin}, ${counted({ computed, steps })}`
  return note.replace(`: ${said}`, '').replace(said, '').replace(/^[;:\s]+|[;:\s]+$/g, '')
}

/**
 * @param {RunReport} report
 * @returns {string[]} what there is to say beside the figures
 */
export function runNotes(report) {
  const { schedule, note, doubts, finished } = report
  return [
    ...(finished ? [] : ['stopped early']),
    shorter(note, { ...report, name: schedule }),
    ...doubts
  ].filter(Boolean)
}

/** The pattern of a plan, with the steps that were chosen by hand. */
function plannedPattern({ plan, chosen, misfit }) {
  if (plan === null) return null
  if (misfit) return withComputed(plan, Array.from({ length: plan.steps }, (_, step) => step))
  return chosen.length ? withComputed(plan, chosen) : plan
}

/** The pattern of a run: what really computed, with the rules of its schedule. */
function ranPattern({ report, schedule }) {
  const { steps, computed } = report
  const fits = schedule?.steps === steps
  if (fits && String(schedule.computed) === String(computed)) return schedule
  return withComputed(
    fits ? schedule : { steps, computed: [0], rules: [''] },
    computed
  )
}

/**
 * @param {PanelState} state
 * @returns {Panel}
 */
export function panelOf(state) {
  const byHand = state.chosen.length > 0 || state.misfit
  const planned = plannedPattern(state)
  const gains = state.plan && !state.misfit && state.plan.origin !== 'learning'
  const base = {
    pattern: planned,
    current: null,
    editable: state.editable && planned !== null && !state.misfit,
    count: planned ? budgetOf(planned) : '',
    speed: gains ? faster(state.plan.speedup) : '',
    speedKind: gains ? 'predicted' : '',
    name: planName(state, byHand),
    origin: planned ? (byHand ? 'custom' : state.plan.origin) : '',
    byHand,
    notes: [planNote(state, byHand), state.several && SEVERAL].filter(Boolean),
    error: state.error
  }
  if (state.host) return { ...base, speed: '', speedKind: '', error: state.host }
  if (state.live) return livePanel(base, state.live)
  if (state.idle) return idlePanel(base, state.idle)
  if (!state.run) return base
  return state.fresh ? ranPanel(base, state.run) : withLastRun(base, state.run)
}

function planName({ plan, known }, byHand) {
  if (plan === null) return ''
  if (byHand) return 'by hand'
  return known ? plan.name : 'general estimate'
}

function planNote({ plan, known, misfit }, byHand) {
  if (plan === null) return ''
  if (!known) return UNKNOWN_MODEL
  if (misfit) return ''
  return byHand ? `rules of ${plan.name}` : shorter(plan.note, plan)
}

function livePanel(base, { schedule, step, steps }) {
  const planned = base.pattern?.steps === steps ? base.pattern : null
  const pattern = schedule ?? planned
  return {
    ...base,
    ...(schedule && { name: schedule.name, origin: schedule.origin }),
    pattern,
    current: step,
    editable: base.editable && pattern === planned,
    count: step < 0 ? 'starting' : `${step} of ${steps} steps done`,
    error: ''
  }
}

function idlePanel(base, idle) {
  const [count, note] = IDLE[idle]
  return { ...base, count, speed: '', speedKind: '', notes: [note] }
}

/** What a run came to; a full run that is learned from is to be no faster. */
function ranSpeed({ speed, speedKind }, { origin, speedup }) {
  if (origin === 'learning') return { speed: '', speedKind: '' }
  return speedup === null ? { speed, speedKind } : { speed: faster(speedup), speedKind: 'measured' }
}

function ranPanel(base, run) {
  const { report } = run
  return {
    ...base,
    pattern: ranPattern(run),
    count: budgetOf(report),
    ...ranSpeed(base, report),
    name: report.schedule,
    origin: report.origin,
    notes: runNotes(report),
    error: ''
  }
}

function withLastRun(base, { report }) {
  const speed = report.speedup === null ? '' : `, ${faster(report.speedup)}`
  const last = `last run: ${budgetOf(report)}${speed}`
  return { ...base, notes: [last, ...base.notes] }
}
