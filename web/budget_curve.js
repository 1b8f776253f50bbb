/**
 * What every budget costs: the predicted worst error on a logarithmic scale, and the speed-up, with the chosen budget
 * marked. Knows nothing of ComfyUI.
 */
import { logScale, logTicks, number, place, range, tickGap } from './heat_scale.js'

/**
 * @typedef {object} CurvePoint
 * @property {number} budget
 * @property {number} worst
 * @property {number} total
 * @property {number} speedup
 */

/**
 * @typedef {object} CurveLayout
 * @property {[number, number][]} errors
 * @property {[number, number][]} speeds
 * @property {number} left
 * @property {number} right
 * @property {number} top
 * @property {number} bottom
 * @property {number} spacing pixels between budgets
 * @property {{ at: number, label: string }[]} errorTicks
 * @property {{ at: number, label: string }[]} speedTicks
 * @property {{ at: number, label: string }[]} budgetTicks
 */

const LEFT = 40
const RIGHT = 34
const TOP = 22
const BOTTOM = 30
const SVG = 'http://www.w3.org/2000/svg'

/**
 * @param {CurvePoint[]} curve by increasing budget, one or more
 * @param {number} width
 * @param {number} height
 * @returns {CurveLayout}
 */
export function curveLayout(curve, width, height) {
  const [left, right] = [LEFT, Math.max(width - RIGHT, LEFT + 1)]
  const [top, bottom] = [TOP, Math.max(height - BOTTOM, TOP + 1)]
  const [first, last] = [curve[0].budget, curve[curve.length - 1].budget]
  const inset = 8
  const spacing = (right - left - 2 * inset) / Math.max(last - first, 1)
  const x = (/** @type {number} */ budget) => left + inset + (budget - first) * spacing
  const errors = logScale(curve.map((point) => point.worst))
  const speeds = logScale(curve.map((point) => point.speedup))
  // Errors of 0 have a line of their own below the scale.
  const zero = curve.some((point) => !point.worst) ? 14 : 0
  const y = (/** @type {import('./heat_scale.js').LogScale} */ scale) =>
    (/** @type {number} */ value) =>
      value ? bottom - inset - zero - place(scale, value) * span : bottom - inset
  const span = Math.max(bottom - top - 2 * inset - zero, 1)
  const ticks = (/** @type {import('./heat_scale.js').LogScale} */ scale, unit = '') =>
    logTicks(scale, 16 / span).map((tick) => ({
      at: y(scale)(tick), label: `${number(tick)}${unit}`
    }))
  const every = tickGap(last, spacing, 20)
  return {
    errors: curve.map((point) => [x(point.budget), y(errors)(point.worst)]),
    speeds: curve.map((point) => [x(point.budget), y(speeds)(point.speedup)]),
    left, right, top, bottom, spacing,
    errorTicks: [
      ...(curve.some((point) => point.worst) ? ticks(errors) : []),
      ...(zero ? [{ at: bottom - inset, label: '0' }] : [])
    ],
    speedTicks: last > first ? ticks(speeds, '×') : [],
    budgetTicks: range(first, last + 1)
      .filter((budget) => budget % every === 0)
      .map((budget) => ({ at: x(budget), label: String(budget) }))
  }
}

/**
 * The place in the curve that lies nearest to a horizontal position.
 * @param {CurveLayout} layout
 * @param {number} x
 */
export function nearest(layout, x) {
  return layout.errors.reduce(
    (best, [at], index) =>
      Math.abs(at - x) < Math.abs(layout.errors[best][0] - x) ? index : best,
    0
  )
}

/**
 * The place in the curve of the budget that lies nearest.
 * @param {CurvePoint[]} curve
 * @param {number} budget
 */
export const indexOf = (curve, budget) =>
  curve.reduce(
    (best, point, index) =>
      Math.abs(point.budget - budget) < Math.abs(curve[best].budget - budget)
        ? index : best,
    0
  )

/** @param {CurvePoint} point */
export const describePoint = (point) =>
  `${point.budget} steps: predicted worst error ${number(point.worst)}, ` +
  `${point.speedup.toFixed(2)}× faster`

/**
 * @param {HTMLElement} host
 * @param {(index: number) => void} onPick
 */
export function createBudgetCurve(host, onPick) {
  host.className = 'lemica-curve'
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('role', 'img')
  host.append(svg)
  /** @type {CurvePoint[]} */
  let curve = []
  let chosen = 0
  /** @type {Record<string, number>} */
  let presets = {}
  /** @type {CurveLayout | null} */
  let layout = null
  const marker = group('lemica-curve-marker')

  function draw() {
    svg.replaceChildren()
    const [width, height] = [host.clientWidth, host.clientHeight]
    if (!curve.length || !width || !height) return
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`)
    layout = curveLayout(curve, width, height)
    svg.append(...frameOf(layout), ...presetMarks(layout, curve, presets))
    svg.append(
      line(layout.speeds, 'lemica-speed-line'),
      line(layout.errors, 'lemica-error-line')
    )
    if (layout.spacing >= 9) {
      svg.append(...dots(layout.errors, 'lemica-error-dot', 2.5))
    }
    svg.append(marker)
    drawMarker()
  }

  function drawMarker() {
    if (!layout || !curve.length) return
    const [x, errorY] = layout.errors[chosen]
    const [, speedY] = layout.speeds[chosen]
    marker.replaceChildren(
      make('line', { x1: x, x2: x, y1: layout.top, y2: layout.bottom }),
      make('rect', {
        class: 'lemica-speed-dot', x: x - 4, y: speedY - 4, width: 8, height: 8
      }),
      make('circle', { class: 'lemica-error-dot', cx: x, cy: errorY, r: 5 })
    )
    svg.setAttribute('aria-label', describePoint(curve[chosen]))
  }

  /** @param {PointerEvent} event */
  function pick(event) {
    if (!layout) return
    const box = host.getBoundingClientRect()
    const zoom = box.width / (host.offsetWidth || 1) || 1
    const index = nearest(layout, (event.clientX - box.left) / zoom)
    if (index !== chosen) onPick(index)
  }
  host.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return
    host.setPointerCapture(event.pointerId)
    pick(event)
  })
  host.addEventListener('pointermove', (event) => {
    if (host.hasPointerCapture(event.pointerId)) pick(event)
  })
  new ResizeObserver(draw).observe(host)

  return {
    /**
     * @param {CurvePoint[]} points
     * @param {number} index
     * @param {Record<string, number>} budgets of the presets
     */
    setCurve(points, index, budgets) {
      ;[curve, chosen, presets] = [points, index, budgets]
      host.classList.toggle('lemica-hidden', !points.length)
      draw()
    },
    /** @param {number} index */
    choose(index) {
      chosen = index
      drawMarker()
    }
  }
}

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {string} [words]
 */
function make(name, attributes, words) {
  const element = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, String(value))
  }
  if (words !== undefined) element.textContent = words
  return element
}

/** @param {string} name */
const group = (name) => make('g', { class: name })

/**
 * @param {[number, number][]} points
 * @param {string} name
 */
const line = (points, name) =>
  make('polyline', { class: name, points: points.map((at) => at.join(',')).join(' ') })

/**
 * @param {[number, number][]} points
 * @param {string} name
 * @param {number} r
 */
const dots = (points, name, r) =>
  points.map(([cx, cy]) => make('circle', { class: name, cx, cy, r }))

/** @param {CurveLayout} layout */
function frameOf(layout) {
  const { left, right, top, bottom } = layout
  return [
    make('rect', {
      class: 'lemica-curve-frame', x: left, y: top, width: right - left, height: bottom - top
    }),
    ...layout.errorTicks.flatMap(({ at, label }) => [
      make('line', { class: 'lemica-curve-grid', x1: left, x2: right, y1: at, y2: at }),
      make('text', { class: 'lemica-error-text', x: left - 5, y: at + 3, 'text-anchor': 'end' }, label)
    ]),
    ...layout.speedTicks.map(({ at, label }) =>
      make('text', { class: 'lemica-speed-text', x: right + 5, y: at + 3 }, label)
    ),
    ...layout.budgetTicks.map(({ at, label }) =>
      make('text', { x: at, y: bottom + 12, 'text-anchor': 'middle' }, label)
    ),
    make('circle', { class: 'lemica-error-dot', cx: left + 3, cy: 9, r: 3 }),
    make('text', { x: left + 10, y: 12 }, 'predicted worst error of a segment'),
    make('rect', { class: 'lemica-speed-dot', x: right - 58, y: 6, width: 6, height: 6 }),
    make('text', { x: right, y: 12, 'text-anchor': 'end' }, 'speed-up'),
    make(
      'text', { x: (left + right) / 2, y: bottom + 25, 'text-anchor': 'middle' },
      'budget: computed steps'
    )
  ]
}

/**
 * @param {CurveLayout} layout
 * @param {CurvePoint[]} curve
 * @param {Record<string, number>} presets
 */
function presetMarks(layout, curve, presets) {
  const names = /** @type {Record<string, string>} */ ({})
  for (const [preset, budget] of Object.entries(presets)) {
    names[budget] = names[budget] ? `${preset}, ${names[budget]}` : preset
  }
  return Object.entries(names).flatMap(([key, words]) => {
    const budget = Number(key)
    const index = curve.findIndex((point) => point.budget === budget)
    if (index < 0) return []
    const [x] = layout.errors[index]
    const mark = make('line', {
      class: 'lemica-curve-preset', x1: x, x2: x, y1: layout.top, y2: layout.bottom
    })
    const label = make(
      'text',
      {
        class: 'lemica-curve-preset', 'text-anchor': 'end',
        transform: `translate(${x - 3} ${layout.top + 4}) rotate(-90)`
      },
      words
    )
    return [mark, label]
  })
}
