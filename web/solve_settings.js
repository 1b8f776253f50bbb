/** What the widgets of LeMiCa Solve ask for. Pure. */

export const LINKED = 'linked'
export const CUSTOM = 'custom'
const BEST = 'best per segment'

/**
 * @param {Record<string, any>} settings the widgets by name
 * @returns {import('./presets.js').Options}
 */
export const optionsOf = ({ objective, rules, compute_last }) => ({
  rule: rules === undefined || rules === BEST ? null : rules,
  objective: objective === 'shortest path' ? 'shortest' : 'minimax',
  tail: !compute_last
})

/**
 * @param {Record<string, any>} settings
 * @param {Record<string, number>} presets budgets
 * @returns {number}
 */
export const budgetOf = ({ preset, budget }, presets) =>
  preset === CUSTOM ? budget : (presets[preset] ?? presets.medium ?? budget)
