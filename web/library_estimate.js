/** What a preset comes to for a model that nothing is known of, for any number of steps. Knows nothing of ComfyUI. */
import { factList, keepKeys, make } from './library_dom.js'
import { planRequest } from './plan.js'
import { newest } from './newest.js'
import { createLegend, createStrip, rulesInUse } from './strip.js'

const STEPS = 30
const MOST_STEPS = 10000

/** @param {any} server */
export function createEstimate(server) {
  const input = /** @type {HTMLInputElement} */ (make('input', 'lemica-field lemica-number'))
  Object.assign(input, { type: 'number', min: '1', max: String(MOST_STEPS), value: String(STEPS) })
  const strip = createStrip()
  const legend = make('div', '')
  const facts = make('div', '')
  const label = make('label', 'lemica-steps', 'Steps of the run', input)
  const element = make('div', 'lemica-estimate', label, strip.element, legend, facts)
  keepKeys(input)

  /** @type {any} */
  let entry = null
  /** @type {any} */
  let plan = null

  const planning = newest(
    (request) => server.post('plan', request),
    (answer) => {
      plan = answer
      const { budget, steps, speedup, note, rules } = answer
      strip.element.hidden = false
      strip.show(answer)
      legend.replaceChildren(createLegend(rulesInUse(answer)))
      facts.replaceChildren(factList([
        ['computes', `${budget} of ${steps} steps, ${speedup.toFixed(2)}× faster (predicted)`],
        ['rules', [...new Set(rules)].join(', ')],
        ['note', note]
      ]))
    },
    (refusal) => fail(refusal.message)
  )

  function fail(words) {
    plan = null
    strip.element.hidden = true
    legend.replaceChildren()
    facts.replaceChildren(make('p', 'lemica-refusal', words))
  }

  function ask() {
    const steps = input.valueAsNumber
    const { family, data } = entry
    if (!Number.isInteger(steps) || steps < 1 || steps > MOST_STEPS)
      return fail(`The steps are "${input.value}": give a whole number from 1 to ${MOST_STEPS}.`)
    const settings = { preset: data.preset, budget: 1, schedule: 'auto', rule: 'as scheduled', chosen: '' }
    planning.request(planRequest(settings, steps, { family, steps, model: '' }))
  }
  input.addEventListener('input', ask)

  return {
    element,
    show(next) {
      entry = next
      ask()
    },
    /** What is shown, or null. */
    plan: () => plan
  }
}
