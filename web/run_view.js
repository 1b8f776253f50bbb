/**
 * Draws the account of a sampling run: one cell per step, filled where the model ran, and a line of text.
 * Knows nothing of ComfyUI.
 */

/**
 * @typedef {object} RunReport
 * @property {string} schedule
 * @property {string} origin
 * @property {string} note
 * @property {number} steps
 * @property {number[]} computed
 * @property {number} calls
 * @property {number} full_calls
 * @property {number | null} speedup
 * @property {string[]} doubts
 * @property {boolean} finished
 */

/**
 * @param {RunReport} report
 * @returns {string[]} the lines to show under the cells
 */
export function describeRun(report) {
  const faster =
    report.speedup === null ? '' : `, ${report.speedup.toFixed(2)}× faster`
  return [
    `computed ${report.computed.length} of ${report.steps} steps${faster}`,
    `${report.schedule} (${report.origin})`,
    ...(report.finished ? [] : ['stopped early']),
    ...[report.note, ...report.doubts].filter(Boolean)
  ]
}

/**
 * @param {RunReport} report
 * @returns {boolean[]} for each step, whether the model ran
 */
export function computedCells(report) {
  const computed = new Set(report.computed)
  return Array.from({ length: report.steps }, (_, step) => computed.has(step))
}

/**
 * @param {HTMLElement} element emptied, then filled
 * @param {RunReport | null} report null before the first run
 */
export function drawRun(element, report) {
  element.replaceChildren()
  if (report === null) return
  const strip = document.createElement('div')
  strip.className = 'lemica-strip'
  computedCells(report).forEach((computed, step) => {
    const cell = document.createElement('span')
    cell.className = computed ? 'lemica-computed' : 'lemica-reused'
    cell.title = `step ${step}: ${computed ? 'computed' : 'reused'}`
    strip.append(cell)
  })
  const lines = describeRun(report).map((text) => {
    const line = document.createElement('div')
    line.textContent = text
    return line
  })
  element.append(strip, ...lines)
}
