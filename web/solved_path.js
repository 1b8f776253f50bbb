/**
 * A solved path by its segments, and a segment of the error graph in words.
 */
import { number } from './heat_scale.js'

/** @typedef {import('./calibration_state.js').Cell} Cell */

/**
 * A solved path, as POST /lemica/solve gives it.
 * @typedef {object} SolvedPath
 * @property {number} steps
 * @property {number} budget
 * @property {number[]} computed
 * @property {string[]} rules
 * @property {number[]} errors
 * @property {number} worst
 * @property {number} total
 * @property {number} speedup
 * @property {{ mean: number, worst: number, other: string } | null} [measured] of this path as a whole, or of another
 *   one of its budget
 */

/**
 * @param {Cell[]} cells
 * @returns {Map<string, Cell>}
 */
export const byPlace = (cells) =>
  new Map(cells.map((cell) => [`${cell[0]} ${cell[1] - cell[0]}`, cell]))

/**
 * A segment in words.
 * @param {{ start: number, length: number }} at
 * @param {Cell | undefined} cell
 * @param {SolvedPath | null} path
 */
export function describeCell(at, cell, path) {
  const { start, length } = at
  const last = start + length - 1
  const reuses = length === 2 ? `${last}` : `${start + 1}–${last}`
  const where = `compute step ${start}, reuse ${reuses}`
  if (!cell) return `${where}: not measured`
  const [, end, mean, worst, spread, rule] = cell
  const taken = path?.computed.includes(start) && segmentEnd(path, start) === end
  return (
    `${where}: error ${number(mean)} ± ${number(spread)}, worst ${number(worst)}, ${rule}` +
    (taken ? ' (in the path)' : '')
  )
}

/**
 * @param {SolvedPath} path
 * @param {number} start
 */
function segmentEnd(path, start) {
  return path.computed[path.computed.indexOf(start) + 1] ?? path.steps
}

/**
 * The segments of a path with the rule of each, null where nothing is reused.
 * @param {SolvedPath} path
 */
export function pathSegments(path) {
  return path.computed.map((start, index) => {
    const end = path.computed[index + 1] ?? path.steps
    return { start, end, rule: end - start > 1 ? path.rules[index] : null }
  })
}
