/** What the widgets of a calibrate node ask for, in the words of POST /lemica/cost. Pure. */

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
  const typed = String(values.prompts ?? '').split('\n').filter((line) => line.trim())
  const samples = (connected + typed.length) * (values.seeds ?? 1)
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

/** @param {{ text: string }} cost */
export const describeCost = ({ text }) => `${text[0].toUpperCase()}${text.slice(1)}.`
