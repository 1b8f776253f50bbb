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
 * What saving as a preset changes, before it is done.
 * @param {{ preset: string, budget: number, steps: number, all: boolean }} wanted
 * @param {{ name: string, budget: number, steps: number, origin: string }} now what the preset gives now
 */
export function foretold({ preset, budget, steps, all }, now) {
  const instead =
    `${preset}: ${budget} of ${steps} instead of ${now.name} (${now.budget} of ${now.steps}, ${now.origin})`
  return all
    ? `${instead}; other step counts are resampled from this, where nothing was made for them.`
    : `${instead}, for these steps only.`
}

/** The same once it is done. */
export const savedWords = ({ preset, budget, steps, all }) =>
  `Saved: with this model, preset ${preset} now computes ${budget} of ${steps} steps` +
  (all ? '; other step counts are resampled from this, where nothing was made for them.' : ', at these steps only.')

/** Of another model than the calibration's: another file, or other LoRAs. */
const foreign = (source, { file, patches }) =>
  (source.file ?? null) !== (file ?? null) || (source.patches ?? '') !== (patches ?? '')

/**
 * What is saved as a preset, by preset: the newest schedule of each that was made of this calibration's model.
 * @param {{ schedules: { name: string, family: string, own: boolean, steps: number, budget: number,
 *   source: Record<string, any> }[] }} library
 * @param {{ family: string, steps: number, file?: string | null, patches?: string | null }} calibration
 * @returns {Record<string, { budget: number, name: string }>}
 */
export function savedPresets(library, calibration) {
  /** @type {Record<string, { budget: number, name: string }>} */
  const saved = {}
  const own = library.schedules
    .filter(
      (schedule) =>
        schedule.own && schedule.family === calibration.family &&
        schedule.steps === calibration.steps && PRESETS.includes(schedule.source.preset) &&
        !foreign(schedule.source, calibration)
    )
    .sort((one, other) => (one.source.saved ?? 0) - (other.source.saved ?? 0))
  for (const { source, budget, name } of own) saved[source.preset] = { budget, name }
  return saved
}
