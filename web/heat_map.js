/**
 * The error graph as a heat map, by start and length of segments, with a path drawn over it and its steps below.
 * Knows nothing of ComfyUI.
 */
import { context, drawBase, drawOver } from './heat_draw.js'
import { cellAt, mapLayout, moved } from './heat_layout.js'
import { ruleColour } from './heat_scale.js'
import { byPlace, describeCell, pathSegments } from './solved_path.js'

/** @typedef {import('./calibration_state.js').Cell} Cell */
/** @typedef {import('./heat_layout.js').MapData} MapData */
/** @typedef {import('./solved_path.js').SolvedPath} SolvedPath */

const THEME_EVENT = 'lemica-theme'

let watching = false

/** Tells every map of another theme, which a page sets as classes and variables of its root; one watcher for all. */
function watchTheme() {
  if (watching) return
  watching = true
  const tell = () => {
    for (const map of document.querySelectorAll('.lemica-map')) map.dispatchEvent(new Event(THEME_EVENT))
  }
  new MutationObserver(tell).observe(document.documentElement, { attributeFilter: ['class', 'style'] })
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
  watchTheme()
  host.addEventListener(THEME_EVENT, () => schedule({ base: true }))

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
