import assert from 'node:assert/strict'
import test from 'node:test'
import { isDefault, presetName, savedPresets } from '../../web/presets.js'
import { newest } from '../../web/newest.js'
import { budgetOf, optionsOf } from '../../web/solve_settings.js'

/** An asynchronous function that is answered by hand. */
function byHand() {
  const calls = []
  const ask = (argument) =>
    new Promise((resolve, reject) => calls.push({ argument, resolve, reject }))
  return { ask, calls }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

test('of requests that come meanwhile only the last is made, and stale answers are not told', async () => {
  const { ask, calls } = byHand()
  const told = []
  const asking = newest(ask, (answer) => told.push(answer), () => told.push('failed'))
  for (const budget of [1, 2, 3]) asking.request(budget)
  assert.deepEqual(calls.map((call) => call.argument), [1])
  calls[0].resolve('one')
  await settled()
  assert.deepEqual(calls.map((call) => call.argument), [1, 3])
  calls[1].resolve('three')
  await settled()
  assert.deepEqual(told, ['three'])
})

test('a failure does not stop what waits, and is told where nothing does', async () => {
  const { ask, calls } = byHand()
  const told = []
  const asking = newest(ask, (answer) => told.push(answer), (error) => told.push(error.message))
  asking.request(1)
  asking.request(2)
  calls[0].reject(new Error('stale'))
  await settled()
  calls[1].reject(new Error('no path'))
  await settled()
  assert.deepEqual(told, ['no path'])
})

test('an answer that was forgotten is not told, and the next one is', async () => {
  const { ask, calls } = byHand()
  const told = []
  const asking = newest(ask, (answer) => told.push(answer), () => told.push('failed'))
  asking.request(1)
  asking.forget()
  asking.request(2)
  calls[0].resolve('one')
  await settled()
  calls[1].resolve('two')
  await settled()
  assert.deepEqual(told, ['two'])
})

test('the widgets of LeMiCa Solve in the words of the route', () => {
  assert.deepEqual(
    optionsOf({ objective: 'shortest path', rules: 'output hold', compute_last: true }),
    { rule: 'output hold', objective: 'shortest', tail: false }
  )
  const plain = optionsOf({ objective: 'minimax', rules: 'best per segment', compute_last: false })
  assert.ok(isDefault(plain))
  const presets = { slow: 12, medium: 9, fast: 7, ultra: 5 }
  assert.equal(budgetOf({ preset: 'fast', budget: 3 }, presets), 7)
  assert.equal(budgetOf({ preset: 'custom', budget: 3 }, presets), 3)
})

test('the newest schedule that was saved as a preset, of the same family and steps', () => {
  const schedule = (name, changed) => ({
    name, family: 'wan', own: true, steps: 20, budget: 7, source: { preset: 'fast', saved: 1 }, ...changed
  })
  const library = {
    schedules: [
      schedule('new', { budget: 8, source: { preset: 'fast', saved: 5 } }),
      schedule('old'),
      schedule('other', { family: 'flux', source: { preset: 'fast', saved: 9 } }),
      schedule('longer', { steps: 30, source: { preset: 'fast', saved: 9 } }),
      schedule('packaged', { own: false, source: { preset: 'slow' } })
    ]
  }
  assert.deepEqual(savedPresets(library, { family: 'wan', steps: 20 }), {
    fast: { budget: 8, name: 'new' }
  })
})

test('the name of a preset is never too long for a schedule', () => {
  assert.equal(presetName('mine', 'fast'), 'mine/fast')
  assert.equal(presetName('x'.repeat(120), 'ultra').length, 120)
})
