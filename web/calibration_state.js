/**
 * What is known of a calibration while it runs: a pure reducer of its events. Knows neither ComfyUI nor the page.
 */

/**
 * A segment of the error graph: start, end, mean error, worst error, spread over samples, rule.
 * @typedef {[number, number, number, number, number, string]} Cell
 */

/**
 * An event of nodes/calibration_progress.py, or an entry of GET /lemica/jobs, which looks like one.
 * @typedef {object} CalibrationEvent
 * @property {string} name
 * @property {'estimate' | 'running' | 'done' | 'stopped'} state
 * @property {string} [text] what is to be measured, in words
 * @property {number | null} [seconds]
 * @property {string} [stage]
 * @property {number} [done] steps that are computed
 * @property {number} [total]
 * @property {number | null} [seconds_left]
 * @property {[number, number, number, string][]} [cells] start, end, error, rule
 * @property {[number, number]} [grid] the steps of a run, and of its longest segment
 */

/**
 * @typedef {object} CalibrationState
 * @property {'idle' | 'estimate' | 'running' | 'done' | 'stopped'} phase
 * @property {string} name
 * @property {string} estimate
 * @property {string} stage
 * @property {number} done
 * @property {number} total
 * @property {number | null} secondsLeft
 * @property {{ steps: number, longest: number } | null} grid
 * @property {Record<string, Tally>} tallies by 'start end rule'
 */

/**
 * The errors of one segment under one rule.
 * @typedef {object} Tally
 * @property {number} start
 * @property {number} end
 * @property {string} rule
 * @property {number} count
 * @property {number} sum
 * @property {number} squares
 * @property {number} worst
 */

/** @type {CalibrationState} */
export const IDLE = Object.freeze({
  phase: 'idle',
  name: '',
  estimate: '',
  stage: '',
  done: 0,
  total: 0,
  secondsLeft: null,
  grid: null,
  tallies: {}
})

/** @param {CalibrationState} state */
export const isActive = (state) =>
  state.phase === 'estimate' || state.phase === 'running'

/**
 * @param {CalibrationState} state
 * @param {CalibrationEvent} event
 * @returns {CalibrationState}
 */
export function reduce(state, event) {
  const goesOn = isActive(state) && state.name === event.name
  const begun = goesOn ? state : { ...IDLE, name: event.name }
  const [steps, longest] = event.grid ?? []
  const known = steps ? { ...begun, grid: { steps, longest } } : begun
  const tallies = addCells(known.tallies, event.cells ?? [])
  switch (event.state) {
    case 'estimate':
      return {
        ...known,
        tallies,
        phase: known.phase === 'running' ? 'running' : 'estimate',
        estimate: event.text ?? known.estimate,
        total: event.total ?? known.total,
        secondsLeft: event.seconds ?? event.seconds_left ?? known.secondsLeft
      }
    case 'running':
      return {
        ...known,
        tallies,
        phase: 'running',
        stage: event.stage ?? '',
        done: event.done ?? 0,
        total: event.total ?? 0,
        secondsLeft: event.seconds_left ?? null
      }
    case 'done':
      return { ...known, tallies, phase: 'done', done: known.total, secondsLeft: 0 }
    case 'stopped':
      return { ...known, tallies, phase: 'stopped', secondsLeft: null }
    default:
      return state
  }
}

/**
 * @param {Record<string, Tally>} tallies
 * @param {[number, number, number, string][]} cells
 */
function addCells(tallies, cells) {
  if (!cells.length) return tallies
  const added = { ...tallies }
  for (const [start, end, error, rule] of cells) {
    const key = `${start} ${end} ${rule}`
    const old = added[key] ?? {
      start, end, rule, count: 0, sum: 0, squares: 0, worst: 0
    }
    added[key] = {
      ...old,
      count: old.count + 1,
      sum: old.sum + error,
      squares: old.squares + error * error,
      worst: Math.max(old.worst, error)
    }
  }
  return added
}

/**
 * The segments that were measured so far, each with its best rule, like those of a finished calibration.
 * @param {CalibrationState} state
 * @returns {Cell[]}
 */
export function measuredCells(state) {
  /** @type {Map<string, Tally>} */
  const best = new Map()
  for (const tally of Object.values(state.tallies)) {
    const key = `${tally.start} ${tally.end}`
    const known = best.get(key)
    if (!known || meanOf(tally) < meanOf(known)) best.set(key, tally)
  }
  return [...best.values()].map((tally) => [
    tally.start, tally.end, meanOf(tally), tally.worst, spreadOf(tally), tally.rule
  ])
}

/** @param {Tally} tally */
const meanOf = (tally) => tally.sum / tally.count

/** @param {Tally} tally */
const spreadOf = (tally) =>
  Math.sqrt(Math.max(tally.squares / tally.count - meanOf(tally) ** 2, 0))

/**
 * A length of time in words, as short as it can be read.
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.max(Math.round(seconds), 0)
  if (whole < 60) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return `${minutes} min ${whole % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/**
 * @param {CalibrationState} state
 * @param {number} [since] seconds since the last event
 * @returns {{ headline: string, detail: string, share: number | null }} share of the work done, null if there is none
 */
export function describeProgress(state, since = 0) {
  const share = state.total ? Math.min(state.done / state.total, 1) : null
  const left =
    state.secondsLeft === null ? '' : duration(state.secondsLeft - since)
  switch (state.phase) {
    case 'estimate':
      return { headline: state.estimate, detail: 'first full run', share: 0 }
    case 'running':
      return {
        headline: left ? `${left} left` : 'timing the first steps',
        detail: `${state.stage} · model step ${state.done} of ${state.total}`,
        share
      }
    case 'done':
      return { headline: 'Calibrated', detail: state.name, share: null }
    case 'stopped':
      return {
        headline: 'Stopped',
        detail: `${state.done} of ${state.total} model steps are kept: queue again to go on`,
        share
      }
    default:
      return { headline: '', detail: '', share: null }
  }
}
