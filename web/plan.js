/** What the node would run: the request, and asking for it. Knows nothing of ComfyUI. */

import { newest } from './newest.js'
import { isSettled } from './sampling.js'
import { parseSteps } from './strip.js'

/**
 * @typedef {object} Settings the node's own inputs
 * @property {string} preset
 * @property {number} budget
 * @property {string} schedule
 * @property {string} rule
 * @property {string} chosen the computed steps as text, for the preset custom
 * @property {string} [learn]
 */

/**
 * @typedef {object} Known what the last run told of the model, as it is kept in the node's properties
 * @property {string} family
 * @property {number} steps
 * @property {number[]} [sigmas]
 * @property {string} [sampling] what the sigmas came from, as text; with anything else they are not known
 * @property {string} model what it was called in the graph; another one is not known
 */

/**
 * @typedef {object} Plan an answer of /lemica/plan
 * @property {string} name
 * @property {string} family
 * @property {number} steps
 * @property {number} budget
 * @property {number[]} computed
 * @property {string[]} rules
 * @property {string} origin
 * @property {string} note
 * @property {number} speedup
 */

const LONGEST_GRID = 200
export const CUSTOM = 'custom'

/**
 * @param {Settings} settings
 * @param {number} steps
 * @param {Known | null} known
 * @param {import('./sampling.js').Sampling} sampling
 */
export function planRequest(settings, steps, known, sampling) {
  const { computed } = chosenSteps(settings, steps)
  const sigmas = known?.sampling === JSON.stringify(sampling) ? known.sigmas : null
  return {
    family: known?.family ?? null,
    steps: sigmas ? sigmas.length - 1 : steps,
    sampling,
    sigmas,
    preset: settings.preset,
    budget: computed.length || settings.budget,
    schedule: settings.schedule,
    rule: settings.rule,
    learn: computed.length ? 'off' : (settings.learn ?? 'off')
  }
}

/**
 * The steps that were chosen by hand; none unless the preset is custom.
 * @param {Settings} settings
 * @param {number} steps
 */
export function chosenSteps(settings, steps) {
  return parseSteps(settings.preset === CUSTOM ? settings.chosen : '', steps)
}

/**
 * What to keep of a run, so that the next plan is for the same model.
 * @param {{ family: string, steps: number, sigmas: number[] | null }} event
 * @param {string} model
 * @param {import('./sampling.js').Sampling | null} sampling of this very run, null where that is not known
 * @returns {Known}
 */
export function knownFrom({ family, steps, sigmas }, model, sampling) {
  const known = { family, steps, model }
  if (!sigmas || sigmas.length > LONGEST_GRID || !sampling || !isSettled(sampling)) return known
  const kept = sigmas.map((sigma) => Number(sigma.toPrecision(6)))
  return { ...known, sigmas: kept, sampling: JSON.stringify(sampling) }
}

/**
 * Asks for plans, one at a time; answers that are overtaken are dropped.
 * @param {(request: object) => Promise<Plan>} ask
 * @param {(plan: Plan | null, error: string) => void} show
 */
export function createPlanner(ask, show) {
  let asked = ''
  const asking = newest(
    ask,
    (plan) => show(plan, ''),
    (refusal) => show(null, refusal.message)
  )
  return {
    /** Ask, unless this was the last question already. */
    request(request) {
      const key = JSON.stringify(request)
      if (key === asked) return
      asked = key
      asking.request(request)
    },
    /** Ask the next time even if the question is the same. */
    forget() {
      asked = ''
    },
    /** Show no answer that is under way. */
    close() {
      asked = ''
      asking.forget()
    }
  }
}

/**
 * A model of a family that only it has is not in the library; it is planned as one that nothing is known of.
 * @param {(request: object) => Promise<Plan>} plan
 */
export function planAsker(plan) {
  return async (request) => {
    try {
      return await plan(request)
    } catch (refusal) {
      if (refusal.status !== 404 || request.family === null) throw refusal
      return plan({ ...request, family: null })
    }
  }
}
