/**
 * What a calibration is saved as, and what its paths have to keep to. Knows nothing of the page.
 */

export const PRESETS = ['slow', 'medium', 'fast', 'ultra']

/**
 * What a path has to keep to, as POST /lemica/solve takes it.
 * @typedef {object} Options
 * @property {string | null} rule
 * @property {'minimax' | 'shortest'} objective
 * @property {boolean} tail
 */

/** @type {Options} */
export const DEFAULTS = Object.freeze({ rule: null, objective: 'minimax', tail: true })

/** @param {Options} options */
export const isDefault = (options) =>
  options.rule === null && options.objective === 'minimax' && options.tail

/**
 * A name that is short enough for a schedule, with the preset at its end.
 * @param {string} calibration
 * @param {string} preset
 */
export function presetName(calibration, preset) {
  const suffix = `/${preset}`
  return `${calibration.slice(0, 120 - suffix.length).trimEnd()}${suffix}`
}

/**
 * What is saved as a preset, by preset: the newest schedule of each that was made of this calibration's family.
 * @param {{ schedules: { name: string, family: string, own: boolean, steps: number, budget: number,
 *   source: Record<string, any> }[] }} library
 * @param {{ family: string, steps: number }} calibration
 * @returns {Record<string, { budget: number, name: string }>}
 */
export function savedPresets(library, calibration) {
  /** @type {Record<string, { budget: number, name: string }>} */
  const saved = {}
  const own = library.schedules
    .filter(
      (schedule) =>
        schedule.own && schedule.family === calibration.family &&
        schedule.steps === calibration.steps && PRESETS.includes(schedule.source.preset)
    )
    .sort((one, other) => (one.source.saved ?? 0) - (other.source.saved ?? 0))
  for (const { source, budget, name } of own) saved[source.preset] = { budget, name }
  return saved
}
