import assert from 'node:assert/strict'
import { test } from 'node:test'

import { computedCells, describeRun } from '../../web/run_view.js'

const report = {
  schedule: 'wan/b2',
  origin: 'published',
  note: 'fits',
  steps: 4,
  computed: [0, 2],
  calls: 4,
  full_calls: 8,
  speedup: 1.996,
  doubts: [],
  finished: true
}

test('one cell a step, filled where the model ran', () => {
  assert.deepEqual(computedCells(report), [true, false, true, false])
})

test('the text names steps, speed-up, schedule and note', () => {
  assert.deepEqual(describeRun(report), [
    'computed 2 of 4 steps, 2.00× faster',
    'wan/b2 (published)',
    'fits'
  ])
})

test('what could not be measured is left out, what went wrong is said', () => {
  const stopped = { ...report, speedup: null, finished: false, note: '', doubts: ['step 3 is computed'] }
  assert.deepEqual(describeRun(stopped), [
    'computed 2 of 4 steps',
    'wan/b2 (published)',
    'stopped early',
    'step 3 is computed'
  ])
})
