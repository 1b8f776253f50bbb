/** The families of the models that have run in this browser, by the name of the model in the graph. */

const KEY = 'LeMiCa.Families'
const MOST = 100
const DEMO = { LeMiCaDemoModel: 'lemica-demo' }

/** @returns {Record<string, string>} */
function seen() {
  try {
    return { ...DEMO, ...JSON.parse(localStorage.getItem(KEY)) }
  } catch {
    return DEMO
  }
}

/** @param {string} model */
export const familyOf = (model) => seen()[model]

/**
 * @param {string} model
 * @param {string} family
 */
export function rememberFamily(model, family) {
  const { [model]: before, ...others } = seen()
  if (before === family) return
  const newest = Object.entries({ ...others, [model]: family }).slice(-MOST)
  localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(newest)))
}
