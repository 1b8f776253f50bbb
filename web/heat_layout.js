/**
 * Where the cells of the error graph are in the heat map, and which segment is where. Knows nothing of the page.
 */

/** @typedef {import('./calibration_state.js').Cell} Cell */

/**
 * @typedef {object} MapData
 * @property {number} steps
 * @property {number} longest
 * @property {Cell[]} cells
 */

/**
 * Where things are, in CSS pixels.
 * @typedef {object} MapLayout
 * @property {number} steps
 * @property {number} longest
 * @property {number} left
 * @property {number} top
 * @property {number} cellWidth
 * @property {number} cellHeight
 * @property {number} bottom the first row below the map
 * @property {number} strip the top of the path's strip
 */

export const LEFT = 30
const RIGHT = 8
export const TOP = 46
const AXIS = 18
export const STRIP = 15

/**
 * @param {MapData} data
 * @param {number} width
 * @param {number} height
 * @returns {MapLayout}
 */
export function mapLayout(data, width, height) {
  const rows = Math.max(data.longest - 1, 1)
  const cellWidth = Math.max(width - LEFT - RIGHT, 1) / data.steps
  const room = Math.max(height - TOP - AXIS - STRIP - 6, rows)
  const cellHeight = Math.min(room / rows, Math.max(14, Math.min(cellWidth, 40)))
  const bottom = TOP + rows * cellHeight
  return {
    steps: data.steps,
    longest: data.longest,
    left: LEFT,
    top: TOP,
    cellWidth,
    cellHeight,
    bottom,
    strip: bottom + AXIS + 4
  }
}

/**
 * The box of a segment's cell: left, top, width, height.
 * @param {MapLayout} layout
 * @param {number} start
 * @param {number} length
 * @returns {[number, number, number, number]}
 */
export function cellBox(layout, start, length) {
  const x = Math.round(layout.left + start * layout.cellWidth)
  const right = Math.round(layout.left + (start + 1) * layout.cellWidth)
  const row = layout.longest - length
  const y = Math.round(layout.top + row * layout.cellHeight)
  const bottom = Math.round(layout.top + (row + 1) * layout.cellHeight)
  const gap = Math.min(layout.cellWidth, layout.cellHeight) >= 9 ? 1 : 0
  return [x, y, Math.max(right - x - gap, 1), Math.max(bottom - y - gap, 1)]
}

/**
 * The segment below a point, as start and length; null outside the map.
 * @param {MapLayout} layout
 * @param {number} x
 * @param {number} y
 * @returns {{ start: number, length: number } | null}
 */
export function cellAt(layout, x, y) {
  const start = Math.floor((x - layout.left) / layout.cellWidth)
  const length = layout.longest - Math.floor((y - layout.top) / layout.cellHeight)
  return isSegment(layout, start, length) ? { start, length } : null
}

/**
 * @param {{ steps: number, longest: number }} bounds
 * @param {number} start
 * @param {number} length
 */
export const isSegment = (bounds, start, length) =>
  start >= 0 && length >= 2 && length <= bounds.longest &&
  start + length <= bounds.steps

/**
 * The segment that an arrow key leads to; the same one where there is none.
 * @param {{ steps: number, longest: number }} bounds
 * @param {{ start: number, length: number }} from
 * @param {string} key
 */
export function moved(bounds, from, key) {
  const { start, length } = from
  const to = {
    ArrowLeft: { start: start - 1, length },
    ArrowRight: { start: start + 1, length },
    ArrowUp: { start, length: length + 1 },
    ArrowDown: { start, length: length - 1 },
    Home: { start: 0, length },
    End: { start: bounds.steps - length, length }
  }[key]
  return to && isSegment(bounds, to.start, to.length) ? to : from
}
