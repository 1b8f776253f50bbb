/** What the widgets of a calibrate node ask for, in the words of POST /lemica/cost and POST /lemica/kept. Pure. */

/** What the efforts of earlier versions are called now. */
const FORMER = { quick: 'short', standard: 'normal' }

/** @param {string} mode of a workflow, perhaps of an earlier version */
export const effortOf = (mode) => FORMER[/** @type {keyof typeof FORMER} */ (mode)] ?? mode

const NUMBERS = { steps: [2, 1000], longest: [0, 1000], tries: [0, 1000] }

/**
 * @param {Record<string, any>} values the widgets by name
 * @param {number} connected prompts that are connected
 * @param {string} family of the model where it is known, or nothing
 * @returns {object | null} null where something is not known before it runs, or does not fit
 */
export function costOrder(values, connected, family) {
  const samples = (connected + typedIn(values).length) * (values.seeds ?? 1)
  const fits = Object.entries(NUMBERS).every(
    ([name, [least, most]]) =>
      Number.isInteger(values[name]) && values[name] >= least && values[name] <= most
  )
  if (!fits || !samples) return null
  if (values.longest && (values.longest < 2 || values.longest > values.steps)) return null
  const { steps, longest, tries, rules } = values
  const mode = effortOf(values.mode)
  const known = family ? { family } : {}
  return { steps, longest, tries, mode, rules, samples, ...known }
}

const typedIn = ({ prompts }) =>
  String(prompts ?? '').split('\n').map((line) => line.trim()).filter(Boolean)

/**
 * @param {Record<string, any>} values the widgets by name
 * @param {number} connected prompts, or guiders, that are connected
 * @param {string} known the name of the calibration that the node has made, or nothing
 * @returns {object | null} null where the calibration has no name before it runs, or no prompts
 */
export function keptOrder(values, connected, known) {
  const name = String(values.name ?? '').trim() || known
  const { seed, seeds, tries, rules, metric, longest, safe } = values
  const mode = effortOf(values.mode)
  // the custom twin has neither: its prompts are names, and sigmas come to it
  const own = values.sampler_name !== undefined
  const prompts = own ? typedIn(values) : []
  if (!name || !(connected + prompts.length)) return null
  const { steps, cfg, scheduler, denoise, sampler_name: sampler } = values
  const setup = own ? { steps, setup: { sampler, scheduler, cfg, denoise } } : {}
  return { name, seed, seeds, tries, mode, safe, rules, metric, longest, connected, prompts, ...setup }
}

/**
 * What is on the disk of a calibration, in words; nothing where there is nothing.
 * @param {{ name: string, steps: number, finished: boolean, different: string[] }} kept
 * @param {number} total the steps that it takes at most, 0 where that is not known
 * @param {boolean} named whether its name was typed: it is no other then
 */
export function describeKept({ name, steps, finished, different }, total, named) {
  if (different.length) {
    const other = `There is a calibration ${name} with another ${different.join(' and ')}`
    return named ? `${other}: give this one another name, or the same settings to go on with it.` : ''
  }
  if (finished) return 'Finished: with the same model and prompts, queueing it again takes a moment.'
  if (!steps) return ''
  const share = total > steps ? `${steps} of at most ${total}` : String(steps)
  return `${share} model steps are kept: with the same model and prompts, queueing it goes on where it stopped.`
}

/** @param {{ text: string }} cost */
export const describeCost = ({ text }) => `${text[0].toUpperCase()}${text.slice(1)}.`
