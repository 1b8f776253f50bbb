/**
 * Draws the heat map: cells, axes and colour bar below, the path and the chosen segment above.
 */
import { LEFT, STRIP, TOP, cellBox } from './heat_layout.js'
import { logScale, logTicks, number, place, range, ruleColour, tickGap, viridis } from './heat_scale.js'
import { pathSegments } from './solved_path.js'

/** @typedef {import('./calibration_state.js').Cell} Cell */
/** @typedef {import('./heat_layout.js').MapLayout} MapLayout */
/** @typedef {import('./solved_path.js').SolvedPath} SolvedPath */

const BAR = 150
const FONT = '10px Inter, system-ui, sans-serif'

/**
 * The context of a canvas that is as sharp as the screen and the zoom of the page around it allow.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLElement} host
 */
export function context(canvas, host) {
  const zoom = host.getBoundingClientRect().width / (host.offsetWidth || 1) || 1
  const ratio = Math.min(Math.max(window.devicePixelRatio * Math.max(zoom, 1), 1), 4)
  const [width, height] = [host.clientWidth, host.clientHeight]
  canvas.width = Math.round(width * ratio)
  canvas.height = Math.round(height * ratio)
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'))
  pen.setTransform(ratio, 0, 0, ratio, 0, 0)
  pen.clearRect(0, 0, width, height)
  pen.font = FONT
  return pen
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {MapLayout} layout
 * @param {Map<string, Cell>} cells
 * @param {{ ink: string }} theme
 */
export function drawBase(pen, layout, cells, theme) {
  const scale = logScale([...cells.values()].map((cell) => cell[2]))
  const hatching = hatch(pen, theme)
  let missing = false
  for (const length of range(2, layout.longest + 1)) {
    for (const start of range(0, layout.steps - length + 1)) {
      const cell = cells.get(`${start} ${length}`)
      missing ||= !cell
      pen.fillStyle = cell ? viridis(place(scale, cell[2])) : hatching
      pen.fillRect(...cellBox(layout, start, length))
    }
  }
  drawBar(pen, scale, cells.size > 0, missing ? hatching : null, theme)
  drawAxes(pen, layout, theme)
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {{ ink: string }} theme
 */
function hatch(pen, theme) {
  const tile = document.createElement('canvas')
  tile.width = tile.height = 12
  const lines = /** @type {CanvasRenderingContext2D} */ (tile.getContext('2d'))
  lines.globalAlpha = 0.1
  lines.fillStyle = theme.ink
  lines.fillRect(0, 0, 12, 12)
  lines.globalAlpha = 0.4
  lines.strokeStyle = theme.ink
  for (const offset of [-12, 0, 12]) {
    lines.moveTo(offset, 12)
    lines.lineTo(offset + 12, 0)
  }
  lines.lineWidth = 1.5
  lines.stroke()
  const pattern = /** @type {CanvasPattern} */ (pen.createPattern(tile, 'repeat'))
  pattern.setTransform(new DOMMatrix().scale(0.5))
  return pattern
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {import('./heat_scale.js').LogScale} scale
 * @param {boolean} measured
 * @param {CanvasPattern | null} hatching null where everything is measured
 * @param {{ ink: string }} theme
 */
function drawBar(pen, scale, measured, hatching, theme) {
  pen.textBaseline = 'middle'
  let x = LEFT
  if (measured) {
    for (const column of range(0, BAR)) {
      pen.fillStyle = viridis(column / (BAR - 1))
      pen.fillRect(LEFT + column, 4, 1, 8)
    }
    pen.fillStyle = theme.ink
    pen.textAlign = 'center'
    for (const tick of logTicks(scale, 34 / BAR)) {
      const at = LEFT + place(scale, tick) * (BAR - 1)
      pen.fillRect(at, 12, 1, 3)
      pen.fillText(number(tick), at, 21)
    }
    pen.textAlign = 'left'
    pen.fillText('mean error', LEFT + BAR + 10, 8)
    x += BAR + 82
  }
  if (hatching) {
    pen.fillStyle = hatching
    pen.fillRect(x, 4, 18, 8)
    pen.fillStyle = theme.ink
    pen.textAlign = 'left'
    pen.fillText('not measured', x + 24, 8)
  }
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {MapLayout} layout
 * @param {{ ink: string }} theme
 */
function drawAxes(pen, layout, theme) {
  pen.fillStyle = theme.ink
  pen.globalAlpha = 0.75
  pen.textBaseline = 'middle'
  pen.textAlign = 'right'
  const every = tickGap(layout.longest, layout.cellHeight, 13)
  for (const length of range(2, layout.longest + 1)) {
    if (length % every === 0) {
      const [, y, , height] = cellBox(layout, 0, length)
      pen.fillText(String(length), layout.left - 6, y + height / 2)
    }
  }
  pen.textAlign = 'left'
  pen.fillText('steps in a segment', 2, TOP - 8)
  pen.textAlign = 'center'
  const gap = tickGap(layout.steps, layout.cellWidth, 22)
  for (const step of range(0, layout.steps)) {
    if (step % gap === 0) {
      const middle = layout.left + (step + 0.5) * layout.cellWidth
      pen.fillRect(middle, layout.bottom + 1, 1, 3)
      pen.fillText(String(step), middle, layout.bottom + 11)
    }
  }
  pen.globalAlpha = 1
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {MapLayout} layout
 * @param {SolvedPath | null} path
 * @param {{ start: number, length: number } | null} focus
 * @param {{ ink: string }} theme
 */
export function drawOver(pen, layout, path, focus, theme) {
  if (path && path.steps === layout.steps) {
    const segments = pathSegments(path)
    for (const { start, end } of segments) {
      if (end - start > 1 && end - start <= layout.longest) {
        frame(pen, cellBox(layout, start, end - start))
      }
    }
    drawStrip(pen, layout, segments)
  }
  if (focus) {
    const [x, y, width, height] = cellBox(layout, focus.start, focus.length)
    pen.strokeStyle = theme.ink
    pen.lineWidth = 2
    pen.setLineDash([3, 2])
    pen.strokeRect(x - 2, y - 2, width + 4, height + 4)
    pen.setLineDash([])
  }
}

/**
 * Black around white, to be seen on any colour.
 * @param {CanvasRenderingContext2D} pen
 * @param {[number, number, number, number]} box
 */
function frame(pen, [x, y, width, height]) {
  const grown = Math.max(5 - Math.min(width, height), 0) / 2
  const [left, top] = [x - grown, y - grown]
  const [wide, high] = [width + 2 * grown, height + 2 * grown]
  pen.lineWidth = 1
  pen.strokeStyle = '#111'
  pen.strokeRect(left - 1, top - 1, wide + 2, high + 2)
  pen.strokeStyle = '#fff'
  pen.lineWidth = 1.5
  pen.strokeRect(left + 0.25, top + 0.25, wide - 0.5, high - 0.5)
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {MapLayout} layout
 * @param {{ start: number, end: number, rule: string | null }[]} segments
 */
function drawStrip(pen, layout, segments) {
  const narrow = layout.cellWidth < 5
  for (const { start, end, rule } of segments) {
    pen.fillStyle = pen.strokeStyle = ruleColour(rule)
    for (const step of range(start, end)) {
      const x = Math.round(layout.left + step * layout.cellWidth)
      const right = Math.round(layout.left + (step + 1) * layout.cellWidth)
      const width = Math.max(right - x - (narrow ? 0 : 1), 1)
      pen.globalAlpha = step > start ? 0.35 : 1
      pen.fillRect(x, layout.strip, width, STRIP - 3)
      pen.globalAlpha = 1
      pen.lineWidth = 1
      if (!narrow) pen.strokeRect(x + 0.5, layout.strip + 0.5, width - 1, STRIP - 4)
    }
  }
  pen.globalAlpha = 1
}
