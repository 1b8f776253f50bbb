import assert from 'node:assert/strict'
import test from 'node:test'
import {
  IDLE, describeProgress, duration, measuredCells, reduce
} from '../../web/calibration_state.js'

const estimate = {
  name: 'mine', state: 'estimate', steps: 400, full_runs: 20, seconds: null,
  text: 'about 20 full runs (400 model steps)', grid: [20, 8]
}
const running = {
  name: 'mine', state: 'running', stage: 'sample 1 of 2', done: 100, total: 400,
  seconds_left: 90, grid: [20, 8]
}
const after = (...events) => events.reduce(reduce, IDLE)

test('a calibration is estimated, runs and is done', () => {
  const begun = after(estimate)
  assert.equal(begun.phase, 'estimate')
  assert.deepEqual(begun.grid, { steps: 20, longest: 8 })
  assert.match(describeProgress(begun).headline, /20 full runs/)
  const on = reduce(begun, running)
  assert.deepEqual([on.phase, on.done, on.total], ['running', 100, 400])
  assert.deepEqual(describeProgress(on, 30), {
    headline: '1 min 0 s left', detail: 'sample 1 of 2 · model step 100 of 400', share: 0.25
  })
  assert.equal(reduce(on, { name: 'mine', state: 'done' }).phase, 'done')
})

test('the estimate with the time leaves a running one running', () => {
  const timed = after(estimate, running, { ...estimate, seconds: 60, text: 'about 400, 60 s left' })
  assert.deepEqual([timed.phase, timed.secondsLeft, timed.done], ['running', 60, 100])
})

test('cells of a segment are gathered over samples, and the best rule is shown', () => {
  const state = after(
    estimate,
    { ...running, cells: [[0, 3, 0.2, 'output hold'], [0, 3, 0.3, 'output linear']] },
    { ...running, cells: [[0, 3, 0.4, 'output hold'], [1, 3, 0.1, 'output hold']] }
  )
  const [first, second] = measuredCells(state)
  assert.deepEqual(first.slice(0, 2), [0, 3])
  assert.equal(first[5], 'output linear')
  assert.deepEqual(second, [1, 3, 0.1, 0.1, 0, 'output hold'])
  const hold = state.tallies['0 3 output hold']
  assert.deepEqual([hold.count, hold.worst], [2, 0.4])
})

test('another calibration, or a new run of one, begins with nothing', () => {
  const state = after(estimate, { ...running, cells: [[0, 2, 1, 'output hold']] })
  assert.equal(measuredCells(reduce(state, { ...estimate, name: 'other' })).length, 0)
  const again = [{ name: 'mine', state: 'stopped' }, estimate].reduce(reduce, state)
  assert.equal(measuredCells(again).length, 0)
  assert.equal(again.phase, 'estimate')
})

test('a stopped one keeps what it measured, and says how to go on', () => {
  const state = after(
    estimate, { ...running, cells: [[0, 2, 1, 'output hold']] }, { name: 'mine', state: 'stopped' }
  )
  assert.equal(measuredCells(state).length, 1)
  assert.match(describeProgress(state).detail, /queue again to go on/)
})

test('a page that is opened later takes up what the server tells', () => {
  const job = { ...running, cells: [[0, 2, 0.5, 'output hold']] }
  assert.deepEqual(measuredCells(after(job)), [[0, 2, 0.5, 0.5, 0, 'output hold']])
})

test('no event changes the state that it came upon', () => {
  const state = Object.freeze(after(estimate))
  Object.freeze(state.tallies)
  reduce(state, { ...running, cells: [[0, 2, 1, 'output hold']] })
  assert.deepEqual(state.tallies, {})
})

test('lengths of time', () => {
  assert.deepEqual(
    [-3, 12, 60, 3599, 7260].map(duration),
    ['0 s', '12 s', '1 min 0 s', '59 min 59 s', '2 h 1 min']
  )
})
