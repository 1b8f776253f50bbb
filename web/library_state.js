/**
 * What the library tab lists: entries by model family, filtered, sorted, and flattened into the rows of a tree.
 * Pure: knows neither ComfyUI nor the page.
 */
import { PRESETS, UNFINISHED } from './library_entries.js'

/** @typedef {import('./library_entries.js').Entry} Entry */

/** @typedef {{ key: string, title: string, entries: Entry[] }} Group */

/**
 * @typedef {object} Row
 * @property {'family' | 'entry' | 'more'} type
 * @property {string} key
 * @property {string} group
 * @property {boolean} [open]
 * @property {Group} [family]
 * @property {Entry} [entry]
 * @property {number} [hidden] how many entries are not shown
 */

export const FILTERS = {
  all: 'everything',
  yours: 'yours',
  packaged: 'packaged',
  published: 'published',
  estimated: 'estimated',
  calibration: 'calibrations',
  unfinished: 'unfinished',
  learned: 'learned'
}
const MOST_ROWS = 200
const byText = new Intl.Collator(undefined, { numeric: true })
const KINDS = ['calibration', 'schedule', 'estimate', 'record', 'job']

/** Whether an entry is of a kind of FILTERS. */
function isOf(entry, only) {
  if (only === 'all') return true
  if (only === 'calibration') return entry.kind === 'calibration'
  if (only === 'packaged') return entry.kind === 'schedule' && !entry.own
  if (only === 'unfinished') return entry.kind === 'job'
  return entry.badges.includes(only)
}

/** Whether each word of a text occurs in what is known of an entry. */
function matches(entry, title, words) {
  const { data, steps } = entry
  const told = [
    entry.name, title, entry.family, entry.kind, ...entry.badges, data.origin ?? '',
    `${steps} steps`, data.budget === undefined ? '' : `${data.budget} of ${steps}`,
    data.mode ?? '', ...(data.rules ?? [])
  ]
  const text = told.join('\n').toLowerCase()
  return words.every((word) => text.includes(word))
}

function compare(one, other) {
  return (
    KINDS.indexOf(one.kind) - KINDS.indexOf(other.kind) ||
    Number(other.own) - Number(one.own) ||
    one.steps - other.steps ||
    (other.data.budget ?? 0) - (one.data.budget ?? 0) ||
    PRESETS.indexOf(one.data.preset) - PRESETS.indexOf(other.data.preset) ||
    byText.compare(one.name, other.name)
  )
}

/**
 * The entries that a filter leaves, by family: unfinished ones first, then families with something of the user's.
 * @param {Entry[]} entries
 * @param {{ key: string, title: string }[]} families
 * @param {{ text?: string, only?: string }} filter
 * @returns {Group[]}
 */
export function groupsOf(entries, families, { text = '', only = 'all' } = {}) {
  const titles = new Map(families.map(({ key, title }) => [key, title]))
  titles.set(UNFINISHED, 'Unfinished calibrations')
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  const groups = new Map()
  for (const entry of entries) {
    const title = titles.get(entry.family) ?? entry.family
    if (!isOf(entry, only) || !matches(entry, title, words)) continue
    if (!groups.has(entry.family)) groups.set(entry.family, { key: entry.family, title, entries: [] })
    groups.get(entry.family).entries.push(entry)
  }
  const rank = ({ key, entries }) =>
    key === UNFINISHED ? 0 : entries.some((entry) => entry.own) ? 1 : 2
  return [...groups.values()]
    .map((group) => ({ ...group, entries: group.entries.sort(compare) }))
    .sort((one, other) => rank(one) - rank(other) || byText.compare(one.title, other.title))
}

/** What a family holds, in few words. */
export function describeGroup({ key, entries }) {
  if (key === UNFINISHED) return String(entries.length)
  const estimated = entries.every((entry) => entry.kind === 'estimate')
  return estimated ? 'estimated' : String(entries.length)
}

/**
 * @param {Group[]} groups
 * @param {(key: string) => boolean} isOpen
 * @param {(key: string) => boolean} isWhole whether every entry of a group is wanted, however many
 * @returns {Row[]}
 */
export function rowsOf(groups, isOpen, isWhole = () => false) {
  return groups.flatMap((family) => {
    const open = isOpen(family.key)
    const head = { type: 'family', key: `family:${family.key}`, group: family.key, open, family }
    if (!open) return [head]
    const shown = isWhole(family.key) ? family.entries : family.entries.slice(0, MOST_ROWS)
    const rows = shown.map((entry) => ({ type: 'entry', key: entry.key, group: family.key, entry }))
    const hidden = family.entries.length - shown.length
    const more = { type: 'more', key: `more:${family.key}`, group: family.key, hidden }
    return [head, ...rows, ...(hidden ? [more] : [])]
  })
}

/**
 * Where a key takes the focus in the tree: the key of a row, or null where the key is not for moving.
 * @param {Row[]} rows
 * @param {string} from the key of a row
 * @param {string} pressed
 */
export function rowAfter(rows, from, pressed) {
  const at = Math.max(rows.findIndex((row) => row.key === from), 0)
  const to = {
    ArrowDown: Math.min(at + 1, rows.length - 1),
    ArrowUp: Math.max(at - 1, 0),
    Home: 0,
    End: rows.length - 1
  }[pressed]
  return to === undefined ? null : rows[to].key
}
