/** The library tab: what there is by model family, its details, files that come and go. Knows nothing of ComfyUI. */
import { createChanges } from './library_changes.js'
import { createDetails } from './library_details.js'
import { button, keepKeys, make } from './library_dom.js'
import { acceptFiles } from './library_drop.js'
import { counted, entriesOf, keyOf } from './library_entries.js'
import { createMessages } from './library_messages.js'
import { FILTERS, groupsOf, rowsOf } from './library_state.js'
import { createTree } from './library_tree.js'
import { newest } from './newest.js'

/** @typedef {import('./library_entries.js').Entry} Entry */

/**
 * @typedef {object} Kept what a page remembers
 * @property {string[]} open families
 * @property {string} chosen the key of an entry
 * @property {string} text
 * @property {string} only
 */

const NOTHING = { families: [], schedules: [], calibrations: [], jobs: [], records: [], problems: [] }

/**
 * @param {object} given
 * @param {any} given.server
 * @param {any} given.service
 * @param {Partial<Kept>} given.kept
 * @param {(kept: Kept) => void} given.keep
 * @param {(entry: Entry) => Promise<boolean>} given.confirmDelete
 * @param {(entry: Entry) => void} given.download
 * @param {(entry: Entry) => string} given.use what to tell the user of it
 * @param {() => void} given.changed the library is another now; `refresh` follows
 */
export function createLibraryView(given) {
  const changes = createChanges(given.server)
  /** @type {Kept} */
  const kept = { open: [], chosen: '', text: '', only: 'all', ...given.kept }
  /** Families of which every entry is shown, however many, and those that are closed while a filter is on. */
  const [whole, closed] = [new Set(), new Set()]
  const running = new Map()
  let library = NOTHING
  /** The key of an entry that the next answer is to bring. */
  let awaited = ''
  /** The key of the entry that was scrolled to. */
  let revealed = ''
  /** @type {Entry[]} */
  let entries = []

  const search = /** @type {HTMLInputElement} */ (make('input', 'lemica-field'))
  Object.assign(search, { type: 'search', placeholder: 'Search', value: kept.text })
  search.setAttribute('aria-label', 'Search the library')
  search.title = 'Names, models, origins, steps and rules'
  const only = /** @type {HTMLSelectElement} */ (make('select', 'lemica-field'))
  only.setAttribute('aria-label', 'Show only')
  for (const [value, words] of Object.entries(FILTERS)) only.append(new Option(words, value))
  only.value = kept.only
  const chooser = /** @type {HTMLInputElement} */ (make('input', ''))
  Object.assign(chooser, { type: 'file', multiple: true, accept: '.json,.safetensors', hidden: true })
  const importing = button(
    'Import…', () => chooser.click(), 'Schedules (.json) and calibrations (.safetensors); or drop them here'
  )
  const messages = createMessages()
  const empty = make('p', 'lemica-empty')
  const problems = make('details', 'lemica-problems')
  const tree = createTree({
    onChoose: choose,
    onOpen: (row, open) => setOpen(row.group, open),
    onAction(row, action) {
      show(row.key)
      if (action === 'rename') details.rename()
      else remove(row.entry)
    }
  })
  const details = createDetails({
    server: given.server, service: given.service, changes,
    onDelete: remove,
    onExport: given.download,
    onUse: (entry) => messages.say([given.use(entry)]),
    onSaved(key, words) {
      messages.say([words])
      awaited = key
      given.changed()
    },
    onRefused: (why) => messages.say([], [why]),
    onClose() {
      const row = kept.chosen
      show('')
      tree.focusOn(row)
    },
    onPreset: given.changed
  })
  const element = make(
    'div', 'lemica-library', make('header', 'lemica-library-head', make('h2', '', 'LeMiCa'), importing, chooser),
    make('div', 'lemica-filter', search, only), messages.element, tree.element, empty, problems, details.element,
    make('div', 'lemica-drop-hint', 'Drop schedules and calibrations to import them')
  )
  acceptFiles(element, importFiles)
  keepKeys(search)
  search.addEventListener('input', () => setFilter({ text: search.value }))
  only.addEventListener('change', () => setFilter({ only: only.value }))
  chooser.addEventListener('change', async () => {
    const files = [...chooser.files]
    chooser.value = ''
    await importFiles(files)
  })

  const filtering = () => kept.text.trim() !== '' || kept.only !== 'all'

  function draw() {
    const groups = groupsOf(entries, library.families, kept)
    const isOpen = (key) => (filtering() ? !closed.has(key) : kept.open.includes(key))
    tree.show(rowsOf(groups, isOpen, (key) => whole.has(key)), kept.chosen)
    empty.hidden = groups.length > 0
    empty.textContent = filtering() && library !== NOTHING ? 'Nothing fits the search.' : ''
    problems.hidden = !library.problems.length
    problems.replaceChildren(
      make('summary', '', `${counted(library.problems.length, 'file')} left out`),
      ...library.problems.map((problem) => make('p', '', problem))
    )
    const chosen = entries.find((entry) => entry.key === kept.chosen) ?? null
    const family = library.families.find(({ key }) => key === chosen?.family)
    details.show(chosen, entries, family?.title ?? '')
    if (chosen && revealed !== chosen.key) tree.reveal(chosen.key)
    revealed = chosen?.key ?? ''
  }

  function remember(change) {
    Object.assign(kept, change)
    given.keep(kept)
    draw()
  }

  function setOpen(group, open) {
    if (filtering()) {
      if (open) closed.delete(group)
      else closed.add(group)
      draw()
    } else {
      const others = kept.open.filter((key) => key !== group)
      remember({ open: open ? [...others, group] : others })
    }
  }

  function setFilter(change) {
    closed.clear()
    remember(change)
  }

  const show = (key) => remember({ chosen: key })

  function choose(row) {
    if (row.type === 'family') setOpen(row.group, !row.open)
    else if (row.type === 'entry') show(row.key)
    else {
      whole.add(row.group)
      draw()
    }
  }

  async function remove(entry) {
    if (!(await given.confirmDelete(entry))) return
    try {
      await changes.remove(entry)
      messages.say([`Deleted ${entry.name}.`])
      show('')
      tree.focusOn(entry.key)
    } catch (refusal) {
      messages.say([], [refusal.message])
    }
    given.changed()
  }

  async function importFiles(files, folders = []) {
    if (!files.length && !folders.length) return
    messages.say([`Importing ${counted(files.length, 'file')}…`])
    const { done, failed } = await changes.importFiles(files)
    messages.say(
      done.map(({ kind, name, existed }) =>
        existed ? `The ${kind} ${name} is there already, with the same content.` : `Imported the ${kind} ${name}.`
      ),
      [
        ...failed.map(({ file, error }) => `${file}: ${error}`),
        ...folders.map((folder) => `${folder}: this is a folder, drop the files in it.`)
      ]
    )
    const last = done.at(-1)
    if (!last) return
    awaited = keyOf(last.kind, last.name)
    given.changed()
  }

  const asking = newest(
    () => Promise.all([given.server.get('library'), given.server.get('jobs')]),
    ([found, jobs]) => {
      library = found
      running.clear()
      for (const job of jobs.running) note(job)
      arrange()
    },
    (refusal) => messages.say([], [refusal.message])
  )

  function arrange() {
    entries = entriesOf(library, [...running.values()])
    const come = entries.find(({ key }) => key === awaited)
    draw()
    if (!come) return
    awaited = ''
    const open = kept.open.includes(come.family) ? kept.open : [...kept.open, come.family]
    remember({ chosen: come.key, open })
  }

  const note = ({ name, folder, state, text = '', stage = '', done = 0, total = 0, seconds_left = null }) =>
    running.set(folder, { name, folder, phase: state, estimate: text, stage, done, total, secondsLeft: seconds_left })

  const refresh = () => asking.request(undefined)

  return {
    element,
    /** Ask the server anew. */
    refresh,
    /** A calibration tells where it stands. */
    tell(event) {
      if (event.state === 'running' || event.state === 'estimate') {
        note(event)
        arrange()
      } else {
        details.forget()
        refresh()
      }
    },
    /** Nothing goes on while the tab is closed. */
    rest: () => details.rest()
  }
}
