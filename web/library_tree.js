/** The tree of the library tab: families, and below them what they have. Knows nothing of ComfyUI. */
import { badgeList, make } from './library_dom.js'
import { describeGroup, rowAfter } from './library_state.js'

/** @typedef {import('./library_state.js').Row} Row */

/**
 * @param {object} given
 * @param {(row: Row) => void} given.onChoose a row was clicked, or Enter pressed on it
 * @param {(row: Row, open: boolean) => void} given.onOpen
 * @param {(row: Row, action: 'rename' | 'delete') => void} given.onAction
 */
export function createTree({ onChoose, onOpen, onAction }) {
  const element = make('div', 'lemica-tree')
  element.setAttribute('role', 'tree')
  element.setAttribute('aria-label', 'Schedules and calibrations by model family')
  /** @type {Row[]} */
  let rows = []
  let focused = ''

  const rowOf = (target) => rows.find((row) => row.key === target.closest?.('[data-key]')?.dataset.key)
  const itemOf = (key) => [...element.children].find((item) => item.dataset.key === key)

  function focusOn(key) {
    itemOf(focused)?.setAttribute('tabindex', '-1')
    focused = key
    const item = itemOf(key)
    item?.setAttribute('tabindex', '0')
    item?.focus()
  }

  element.addEventListener('click', ({ target }) => {
    const row = rowOf(target)
    if (!row) return
    focusOn(row.key)
    onChoose(row)
  })

  /** What a key does to a row; whether it does anything. */
  function press(row, key) {
    const next = rowAfter(rows, row.key, key)
    if (next !== null) focusOn(next)
    else if (key === 'Enter' || key === ' ') onChoose(row)
    else if (key === 'ArrowRight' && row.type === 'family') {
      if (row.open) focusOn(rowAfter(rows, row.key, 'ArrowDown'))
      else onOpen(row, true)
    } else if (key === 'ArrowLeft') {
      if (row.type !== 'family') focusOn(`family:${row.group}`)
      else if (row.open) onOpen(row, false)
    } else if (row.type === 'entry' && isNamed(row.entry) && key === 'F2') onAction(row, 'rename')
    else if (row.type === 'entry' && row.entry.own && key === 'Delete') onAction(row, 'delete')
    else return false
    return true
  }

  element.addEventListener('keydown', (event) => {
    const row = rowOf(event.target)
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return
    if (!press(row, event.key)) return
    event.preventDefault()
    event.stopPropagation()
  })

  /** Items that stay as they are keep their elements: a click on one must not be lost to a redraw in the midst of it. */
  function place(items) {
    const old = [...element.children]
    const same = old.length === items.length && old.every((item, at) => item.dataset.key === items[at].dataset.key)
    if (same) {
      items.forEach((item, at) => item.isEqualNode(old[at]) || old[at].replaceWith(item))
      return
    }
    const { scrollTop } = element
    element.replaceChildren(...items)
    element.scrollTop = scrollTop
  }

  return {
    element,
    focusOn,
    /** Scroll to a row. */
    reveal: (key) => itemOf(key)?.scrollIntoView({ block: 'nearest' }),
    /**
     * @param {Row[]} next
     * @param {string} chosen the key of the entry whose details are shown
     */
    show(next, chosen) {
      const held = element.contains(document.activeElement)
      const before = rows.findIndex((row) => row.key === focused)
      rows = next
      if (!rows.some((row) => row.key === focused)) {
        // what had the focus is gone: what stands in its place now
        focused = rows[Math.min(Math.max(before, 0), rows.length - 1)]?.key ?? ''
      }
      place(rows.map((row) => itemFor(row, chosen, focused)))
      if (held) itemOf(focused)?.focus()
    }
  }
}

/** Whether the user can give it another name. */
const isNamed = ({ own, kind }) => own && (kind === 'schedule' || kind === 'calibration')

/** @param {Row} row */
function itemFor(row, chosen, focused) {
  const item = row.type === 'family' ? familyItem(row) : row.type === 'entry' ? entryItem(row) : moreItem(row)
  item.dataset.key = row.key
  item.setAttribute('role', 'treeitem')
  item.setAttribute('aria-level', row.type === 'family' ? '1' : '2')
  item.setAttribute('tabindex', row.key === focused ? '0' : '-1')
  if (row.type === 'family') item.setAttribute('aria-expanded', String(row.open))
  else item.setAttribute('aria-selected', String(row.key === chosen))
  return item
}

function familyItem({ family, open }) {
  const arrow = make('i', `pi ${open ? 'pi-chevron-down' : 'pi-chevron-right'}`)
  arrow.setAttribute('aria-hidden', 'true')
  const item = make(
    'div', 'lemica-family', arrow, make('span', 'lemica-family-title', family.title),
    make('span', 'lemica-family-count', describeGroup(family))
  )
  item.title = family.title
  return item
}

function entryItem({ entry }) {
  const badges = entry.kind === 'calibration' ? [entry.kind] : entry.badges
  const item = make(
    'div', 'lemica-entry', make('span', 'lemica-entry-name', entry.name),
    make('span', 'lemica-entry-measure', entry.measure), ...badgeList(badges)
  )
  item.title = [entry.name, entry.measure, ...entry.badges].join(' · ')
  return item
}

const moreItem = ({ hidden }) => make('div', 'lemica-entry lemica-more', `show ${hidden} more`)
