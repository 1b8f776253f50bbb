/**
 * The error graph as a heat map, by start and length of segments, with a path drawn over it and its steps below.
 * Knows nothing of ComfyUI.
 */
import {
  logScale, logTicks, number, place, range, ruleColour, tickGap, viridis
} from './heat_scale.js'

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
 */

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

const LEFT = 30
const RIGHT = 8
const TOP = 46
const AXIS = 18
const STRIP = 15
const BAR = 150
const FONT = '10px Inter, system-ui, sans-serif'

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

/**
 * Draws a map into an element that has a height of its own.
 * @param {HTMLElement} host
 */
export function createHeatMap(host) {
  host.className = 'lemica-map'
  host.tabIndex = 0
  host.setAttribute('role', 'group')
  host.setAttribute('aria-label', 'Error graph; arrow keys go from segment to segment')
  const base = document.createElement('canvas')
  const over = document.createElement('canvas')
  const detail = document.createElement('div')
  detail.className = 'lemica-map-detail'
  detail.setAttribute('role', 'status')
  base.className = 'lemica-map-base'
  over.className = 'lemica-map-over'
  host.append(base, over)

  /** @type {MapData | null} */
  let data = null
  /** @type {Map<string, Cell>} */
  let cells = new Map()
  /** @type {SolvedPath | null} */
  let path = null
  /** @type {{ start: number, length: number } | null} */
  let focus = null
  let pending = 0
  let stale = { base: true, over: true }

  const layout = () =>
    data && mapLayout(data, host.clientWidth, host.clientHeight)

  function schedule(what) {
    stale = { ...stale, ...what }
    pending ||= requestAnimationFrame(render)
  }

  function render() {
    pending = 0
    const at = layout()
    if (!at || !host.clientWidth) return
    const theme = { ink: getComputedStyle(host).color }
    if (stale.base) drawBase(context(base, host), at, cells, theme)
    if (stale.over || stale.base) {
      drawOver(context(over, host), at, path, focus, theme)
    }
    stale = { base: false, over: false }
  }

  /** @param {{ start: number, length: number } | null} next */
  function setFocus(next) {
    if (next?.start === focus?.start && next?.length === focus?.length) return
    focus = next
    describe()
    schedule({ over: true })
  }

  function describe() {
    detail.replaceChildren(
      ...(focus
        ? [describeCell(focus, cells.get(`${focus.start} ${focus.length}`), path)]
        : legend(path))
    )
  }

  host.addEventListener('pointermove', (event) => {
    const at = layout()
    if (!at) return
    const box = host.getBoundingClientRect()
    const zoom = box.width / (host.offsetWidth || 1) || 1
    setFocus(
      cellAt(at, (event.clientX - box.left) / zoom, (event.clientY - box.top) / zoom)
    )
  })
  host.addEventListener('pointerenter', () => schedule({ base: true }))
  host.addEventListener('pointerleave', () => setFocus(null))
  host.addEventListener('blur', () => setFocus(null))
  host.addEventListener('focus', () => {
    if (data && !focus && host.matches(':focus-visible')) {
      const [first] = data.cells
      setFocus(
        first ? { start: first[0], length: first[1] - first[0] } : { start: 0, length: 2 }
      )
    }
  })
  host.addEventListener('keydown', (event) => {
    const known = /^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key)
    if (!known || !data) return
    event.preventDefault()
    event.stopPropagation()
    setFocus(moved(data, focus ?? { start: 0, length: 2 }, event.key))
  })
  new ResizeObserver(() => schedule({ base: true })).observe(host)
  // The style sheet fades the colour of text, so that the end of that tells of another theme.
  host.addEventListener('transitionend', () => schedule({ base: true }))

  return {
    detail,
    /** @param {MapData | null} next */
    setData(next) {
      data = next
      cells = byPlace(next?.cells ?? [])
      host.classList.toggle('lemica-hidden', !next)
      describe()
      schedule({ base: true })
    },
    /** @param {SolvedPath | null} next */
    setPath(next) {
      path = next
      describe()
      schedule({ over: true })
    },
    redraw: () => schedule({ base: true })
  }
}

/**
 * The rules of a path with their colours.
 * @param {SolvedPath | null} path
 */
function legend(path) {
  const rules = new Set(path ? pathSegments(path).map(({ rule }) => rule) : [])
  return [...rules].map((rule) => {
    const entry = document.createElement('span')
    entry.className = 'lemica-map-rule'
    entry.style.setProperty('--lemica-swatch', ruleColour(rule))
    entry.textContent = rule ?? 'nothing reused'
    return entry
  })
}

/**
 * The context of a canvas that is as sharp as the screen and the zoom of the page around it allow.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLElement} host
 */
function context(canvas, host) {
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
function drawBase(pen, layout, cells, theme) {
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
function drawOver(pen, layout, path, focus, theme) {
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
