/** The details of one entry of the library, and what can be done with it. Knows nothing of ComfyUI. */
import { describeProgress } from './calibration_state.js'
import { createCalibrationView } from './calibration_view.js'
import { badgeList, button, factList, make } from './library_dom.js'
import { counted, partnersOf, sourceFacts } from './library_entries.js'
import { createEstimate } from './library_estimate.js'
import { createChoice, createNameForm } from './library_forms.js'
import { createLegend, createStrip, rulesInUse } from './strip.js'

/** @typedef {import('./library_entries.js').Entry} Entry */

const KINDS = {
  schedule: 'Schedule', calibration: 'Calibration', estimate: 'Estimated schedule', job: 'Calibration',
  record: 'Picture learned from'
}
const GO_ON =
  'To go on, queue the calibration workflow with the same name and the same settings: it begins where it stopped.'
const RUNS = 'It is being measured: its node shows how far it is. It can be stopped and gone on with later.'

/**
 * @param {object} given
 * @param {any} given.server
 * @param {any} given.service what a calibration's view asks
 * @param {ReturnType<typeof import('./library_changes.js').createChanges>} given.changes
 * @param {(entry: Entry) => Promise<void>} given.onDelete
 * @param {(entry: Entry) => void} given.onExport
 * @param {(entry: Entry) => void} given.onUse
 * @param {(key: string, words: string) => void} given.onSaved something is named anew, and to be shown
 * @param {() => void} given.onClose
 * @param {(why: string) => void} given.onRefused a change was refused
 * @param {() => void} given.onPreset a preset was saved
 */
export function createDetails(given) {
  const { changes } = given
  const title = make('h3', '')
  const close = button('×', given.onClose, 'Close the details')
  close.setAttribute('aria-label', 'Close the details')
  const badges = make('div', 'lemica-badges')
  const actions = make('div', 'lemica-actions')
  const form = make('div', 'lemica-form-place')
  const body = make('div', 'lemica-details-body')
  const measured = make('div', 'lemica-details-calibration')
  const view = createCalibrationView(measured, { service: given.service, onSaved: given.onPreset })
  const estimate = createEstimate(given.server)
  const element = make(
    'section', 'lemica-details', make('header', '', title, close), badges, actions, form, body, measured
  )
  element.setAttribute('aria-label', 'Details')
  element.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return
    event.stopPropagation()
    given.onClose()
  })

  /** @type {Entry | null} */
  let entry = null
  /** @type {Entry[]} */
  let entries = []
  let shown = ''

  function closeForm() {
    form.replaceChildren()
    actions.hidden = false
    actions.querySelector('button')?.focus()
  }

  /** Ask for a name in place of the buttons. */
  function ask(question) {
    const asked = createNameForm({ ...question, onCancel: closeForm })
    form.replaceChildren(asked.element)
    actions.hidden = true
    asked.focus()
  }

  /** Ask for a name under which something is saved. */
  const askName = (question, kind, work, words) =>
    ask({
      ...question,
      async onSubmit(name) {
        const { name: saved } = await work(name)
        closeForm()
        given.onSaved(`${kind}:${saved}`, words(saved))
      }
    })

  const rename = () =>
    askName(
      { label: 'New name', value: entry.name, action: 'Rename' }, entry.kind,
      (name) => changes.rename(entry, name), (name) => (entry.kind === 'record' ? 'Renamed.' : `Renamed to ${name}.`)
    )

  /** Leave a picture out of what is learned, or count it again. */
  async function leaveOut() {
    const { key, name, data } = entry
    try {
      await changes.leaveOut(entry)
      given.onSaved(key, data.left_out ? `${name} counts again.` : `${name} is left out.`)
    } catch (refusal) {
      given.onRefused(refusal.message)
    }
  }

  const copy = () =>
    askName(
      { label: 'Name of the copy', value: `${entry.name} (mine)`, action: 'Save' }, 'schedule',
      (name) => changes.copy(entry, name), (name) => `Saved as ${name}.`
    )

  function keep() {
    const plan = estimate.plan()
    if (!plan) return
    askName(
      { label: 'Name', value: `${entry.family}/${entry.data.preset}`, action: 'Save' }, 'schedule',
      (name) => changes.keep({ ...plan, family: entry.family }, name), (name) => `Saved as ${name}.`
    )
  }

  function merge(partners) {
    const other = createChoice('Merge with', partners.map(({ name }) => name))
    askName(
      {
        label: 'Name of both together', value: `${entry.name} merged`, action: 'Merge', before: [other.element]
      },
      'calibration', (name) => changes.merge(entry, other.value(), name), (name) => `Merged into ${name}.`
    )
  }

  function mergeButton() {
    const partners = partnersOf(entries, entry)
    const element = button('Merge…', () => merge(partners), 'One calibration with the samples of two')
    element.disabled = !partners.length
    if (element.disabled) element.title = 'There is no other calibration of this family, effort and number of steps.'
    return element
  }

  function buttons() {
    const { kind, own } = entry
    if (kind === 'estimate') return [button('Save…', keep, 'Save this as a schedule of yours')]
    const remove = button('Delete…', () => given.onDelete(entry))
    remove.classList.add('lemica-danger')
    if (kind === 'record') {
      const leave = entry.data.left_out
        ? button('Count again', leaveOut, 'Learn from it again')
        : button('Leave out', leaveOut, 'Learn no longer from it, and keep it')
      return [leave, button('Rename…', rename), remove]
    }
    if (kind === 'job') return own ? [remove] : []
    return [
      button('Use', () => given.onUse(entry), 'Choose it on the selected LeMiCa node'),
      button('Export', () => given.onExport(entry), 'Download its file'),
      ...(own ? [button('Rename…', rename)] : [button('Copy…', copy, 'Save it as one of yours, to change it')]),
      ...(kind === 'calibration' ? [mergeButton()] : []),
      ...(own ? [remove] : [])
    ]
  }

  function content() {
    if (entry.kind === 'schedule') return scheduleContent(entry)
    if (entry.kind === 'calibration') return calibrationContent(entry)
    if (entry.kind === 'job') return jobContent(entry)
    if (entry.kind === 'record') return recordContent(entry)
    return [estimate.element]
  }

  return {
    element,
    /**
     * @param {Entry | null} next
     * @param {Entry[]} all
     * @param {string} family the title of its family
     */
    show(next, all, family) {
      entries = all
      const now = JSON.stringify([next, family, next && partnersOf(all, next).length])
      if (now === shown) return
      const same = next !== null && next.key === entry?.key
      ;[entry, shown] = [next, now]
      element.hidden = next === null
      if (!same) form.replaceChildren()
      if (!same) view.close()
      measured.hidden = next?.kind !== 'calibration'
      if (next === null) return
      title.textContent = next.name
      const kind = `${KINDS[next.kind]} · ${next.kind === 'job' ? 'unfinished' : family}`
      badges.replaceChildren(make('span', 'lemica-kind', kind), ...badgeList(next.badges))
      actions.hidden = form.childElementCount > 0
      actions.replaceChildren(...buttons())
      if (next.kind === 'estimate') estimate.show(next)
      body.replaceChildren(...content())
      if (next.kind === 'calibration') view.open(next.name, ({ presets }) => presets.medium)
      if (!same) element.scrollTop = 0
    },
    rename,
    /** What is shown may have changed, though its entry in the list has not. */
    forget() {
      shown = ''
    },
    rest: () => view.rest()
  }
}

function scheduleContent({ data, own }) {
  const strip = createStrip()
  strip.show(data)
  const { steps, budget, origin, source } = data
  const facts = [
    ['computes', `${budget} of ${steps} steps, ${(steps / budget).toFixed(2)}× fewer`],
    ['origin', own ? origin : `${origin}, comes with the pack and is read only`],
    ...weightFacts(data.weights)
  ]
  return [strip.element, createLegend(rulesInUse(data)), factList([...facts, ...sourceFacts(source)])]
}

/** @param {number[][]} weights of every segment, none where its rule is not fitted */
function weightFacts(weights) {
  const past = Math.max(0, ...weights.map(({ length }) => length))
  return past ? [['fitted', `every segment weighs up to ${counted(past, 'computed step')} before it`]] : []
}

function calibrationContent({ data }) {
  const { steps, samples, longest, mode, metric, rules } = data
  return [
    factList([
      ['measured', `${samples} ${samples === 1 ? 'sample' : 'samples'} of ${steps} steps, effort ${mode}`],
      ['error', `${metric}, of up to ${longest} steps in a row`],
      ['rules', rules.join(', ')]
    ])
  ]
}

function recordContent({ data }) {
  const { sampler, guidance, latent, file, seed, refined } = data
  const facts = [['model', file], ['sampler', sampler], ...Object.entries(guidance).map(([name, value]) => [name, String(value)])]
  return [
    factList([
      ...facts, ['latent', latent.join(' × ')], ['seed', String(seed)],
      ...(refined.length ? [['refined', `with ${refined.join(', ')} computed steps`]] : [])
    ]),
    make('p', 'lemica-muted', 'Neither the picture nor its prompt is kept. Left out or deleted, it no longer counts.')
  ]
}

function jobContent({ data }) {
  const { running, samples = 0, replays = 0 } = data
  const told = running ? describeProgress({ secondsLeft: null, ...running }) : null
  const bar = /** @type {HTMLProgressElement} */ (make('progress', 'lemica-job-progress'))
  bar.value = told?.share ?? 0
  bar.setAttribute('aria-label', 'Calibration')
  const kept = `${samples} ${samples === 1 ? 'sample' : 'samples'} begun, ${replays} replays on the disk`
  const words = told ? [told.headline, told.detail].filter(Boolean).join(' · ') : kept
  return [...(told ? [bar] : []), make('p', '', words), make('p', 'lemica-muted', running ? RUNS : GO_ON)]
}
