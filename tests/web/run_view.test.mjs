import assert from 'node:assert/strict'
import { test } from 'node:test'

import { IDLE, SEVERAL, UNKNOWN_MODEL, panelOf, runNotes } from '../../web/run_view.js'

const plan = {
  name: 'wan/b2',
  family: 'wan',
  steps: 4,
  budget: 2,
  computed: [0, 2],
  rules: ['output hold', 'output half'],
  origin: 'published',
  note: 'wan/b2, published, 2 of 4 steps; for the sigmas of flow shift 5',
  speedup: 1.87
}
const report = {
  schedule: 'wan/b2',
  origin: 'published',
  note: 'detected Wan: wan/b2, published, 2 of 4 steps',
  steps: 4,
  computed: [0, 2],
  speedup: 1.996,
  doubts: [],
  finished: true
}
const state = {
  plan, error: '', chosen: [], editable: false, known: true, live: null, run: null, fresh: false, idle: '', misfit: false,
  several: false
}

test('before a run: the plan, its name, provenance, budget and predicted speed-up', () => {
  const panel = panelOf(state)
  assert.equal(panel.pattern, plan)
  assert.equal(panel.current, null)
  assert.deepEqual(
    [panel.count, panel.speed, panel.speedKind, panel.name, panel.origin],
    ['2 of 4 computed', '1.87× faster', 'predicted', 'wan/b2', 'published']
  )
  assert.deepEqual(panel.notes, ['for the sigmas of flow shift 5'])
})

test('a model that nothing is known of gets an estimate, and is told so', () => {
  const panel = panelOf({ ...state, known: false })
  assert.equal(panel.name, 'general estimate')
  assert.deepEqual(panel.notes, [UNKNOWN_MODEL])
})

test('without a plan there is no strip, and the reason is said', () => {
  const panel = panelOf({ ...state, plan: null, error: 'no such family', editable: true })
  assert.equal(panel.pattern, null)
  assert.equal(panel.error, 'no such family')
  assert.equal(panel.editable, false)
  assert.equal(panel.speedKind, '')
})

test('steps chosen by hand keep the rules that the plan has there', () => {
  const panel = panelOf({ ...state, chosen: [0, 1, 3], editable: true })
  assert.deepEqual(panel.pattern.computed, [0, 1, 3])
  assert.deepEqual(panel.pattern.rules, ['output hold', 'output hold', 'output half'])
  assert.deepEqual([panel.name, panel.origin, panel.byHand], ['by hand', 'custom', true])
  assert.deepEqual(panel.notes, ['rules of wan/b2'])
  assert.ok(panel.editable)
})

test('a model that was left as it is: the reason stands, and no speed is promised, whatever ran before', () => {
  const host = 'Computing every step: This ComfyUI is not one that LeMiCa knows'
  const run = { report, schedule: plan }
  for (const before of [{}, { run, fresh: true }, { error: 'x' }]) {
    const panel = panelOf({ ...state, ...before, host })
    assert.deepEqual([panel.error, panel.speed, panel.speedKind], [host, '', ''])
    assert.deepEqual(panel.notes, panelOf(state).notes)
  }
})

test('during a run: its own schedule, the current step, and no error of the settings', () => {
  const schedule = { ...plan, name: 'wan/b3', computed: [0, 1, 2], rules: Array(3).fill('output hold') }
  const starting = panelOf({ ...state, error: 'x', live: { schedule, step: -1, steps: 4 } })
  assert.equal(starting.count, 'starting')
  assert.equal(starting.error, '')
  const running = panelOf({ ...state, live: { schedule, step: 2, steps: 4 } })
  assert.equal(running.pattern, schedule)
  assert.deepEqual([running.current, running.count, running.name], [2, '2 of 4 steps done', 'wan/b3'])
})

test('a run whose beginning was missed is shown on the plan, if that has as many steps', () => {
  const fits = panelOf({ ...state, live: { schedule: null, step: 1, steps: 4 } })
  assert.equal(fits.pattern, plan)
  const other = panelOf({ ...state, live: { schedule: null, step: 1, steps: 9 } })
  assert.equal(other.pattern, null)
  assert.equal(other.count, '1 of 9 steps done')
})

test('after a run: what really computed, and the measured speed-up', () => {
  const run = { report: { ...report, computed: [0, 2, 3] }, schedule: plan }
  const panel = panelOf({ ...state, run, fresh: true })
  assert.deepEqual(panel.pattern.computed, [0, 2, 3])
  assert.deepEqual(panel.pattern.rules, ['output hold', 'output half', 'output half'])
  assert.deepEqual(
    [panel.count, panel.speed, panel.speedKind],
    ['3 of 4 computed', '2.00× faster', 'measured']
  )
})

test('what was not measured stays a prediction', () => {
  const run = { report: { ...report, speedup: null }, schedule: plan }
  const panel = panelOf({ ...state, run, fresh: true })
  assert.deepEqual([panel.speed, panel.speedKind], ['1.87× faster', 'predicted'])
})

test('with other settings the last run is a note beside the new plan', () => {
  const run = { report, schedule: plan }
  const panel = panelOf({ ...state, run, fresh: false })
  assert.equal(panel.speedKind, 'predicted')
  assert.equal(panel.notes[0], 'last run: 2 of 4 computed, 2.00× faster')
})

test('the notes of a run leave out what stands above them, and tell what went wrong', () => {
  assert.deepEqual(runNotes(report), ['detected Wan'])
  const stopped = { ...report, finished: false, note: '', doubts: ['step 3 is computed'] }
  assert.deepEqual(runNotes(stopped), ['stopped early', 'step 3 is computed'])
})

test('a note that only says what stands above it leaves no empty words', () => {
  const said = 'wan/b2, published, 2 of 4 steps'
  for (const [note, left] of [
    [`chosen by name: ${said}`, ['chosen by name']],
    [`saved as fast: ${said}`, ['saved as fast']],
    [`chosen by name: ${said}; for the sigmas of flow shift 5`, ['chosen by name; for the sigmas of flow shift 5']],
    [said, []]
  ]) {
    assert.deepEqual(panelOf({ ...state, plan: { ...plan, note } }).notes, left)
    assert.deepEqual(runNotes({ ...report, note }), left)
  }
})

test('a node that does nothing says so, promises nothing, and keeps its strip', () => {
  const run = { report, schedule: plan }
  for (const [idle, [count, note]] of Object.entries(IDLE)) {
    for (const fresh of [false, true]) {
      const panel = panelOf({ ...state, idle, run, fresh })
      assert.deepEqual([panel.count, panel.speed, panel.speedKind, panel.notes], [count, '', '', [note]])
      assert.equal(panel.pattern, plan)
    }
    assert.equal(panelOf({ ...state, idle, live: { schedule: plan, step: 1, steps: 4 } }).count, '1 of 4 steps done')
  }
})

test('steps chosen by hand that do not fit are shown as the run that computes every step', () => {
  const panel = panelOf({ ...state, misfit: true, editable: true, error: 'step 9 is not in the run' })
  assert.deepEqual(panel.pattern.computed, [0, 1, 2, 3])
  assert.deepEqual([panel.count, panel.speed, panel.speedKind], ['4 of 4 computed', '', ''])
  assert.deepEqual([panel.name, panel.byHand, panel.editable], ['by hand', true, false])
  assert.equal(panel.error, 'step 9 is not in the run')
})

test('where several samplers follow the plan says whose it is', () => {
  assert.ok(panelOf({ ...state, several: true }).notes.includes(SEVERAL))
})

test('after a run by fitted weights its rules are those of the schedule, and half where other steps computed', () => {
  const schedule = { ...plan, rules: ['output fitted', 'output fitted'] }
  const after = (computed) => panelOf({ ...state, fresh: true, run: { report: { ...report, computed }, schedule } }).pattern
  assert.deepEqual(after([0, 2]).rules, ['output fitted', 'output fitted'])
  assert.deepEqual(after([0, 2, 3]).rules, ['output half', 'output half', 'output half'])
})

test('a full run that is learned from promises no speed-up and measured none', () => {
  const full = { ...plan, computed: [0, 1, 2, 3], rules: Array(4).fill('output hold'), origin: 'learning', speedup: 1 }
  assert.equal(panelOf({ ...state, plan: full }).speed, '')
  const run = { report: { ...report, computed: full.computed, origin: 'learning' }, schedule: full }
  assert.equal(panelOf({ ...state, plan: full, run, fresh: true }).speed, '')
})
