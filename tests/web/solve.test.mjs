import assert from 'node:assert/strict'
import test from 'node:test'
import { figuresOf } from '../../web/calibration_parts.js'
import { foretold, isDefault, presetName, savedPresets, savedWords } from '../../web/presets.js'
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

test('a schedule of another file or with other LoRAs is not what the preset of this model gives', () => {
  const saved = (name, source) => ({
    name, family: 'wan', own: true, steps: 20, budget: 7, source: { preset: 'fast', saved: 1, ...source }
  })
  const presets = (calibration, ...schedules) =>
    savedPresets({ schedules }, { family: 'wan', steps: 20, file: 'a', patches: '', ...calibration }).fast?.name
  assert.equal(presets({}, saved('before patches were known', { file: 'a' })), 'before patches were known')
  assert.equal(presets({}, saved('other', { file: 'b', patches: '' })), undefined)
  assert.equal(presets({}, saved('lora', { file: 'a', patches: 'x' })), undefined)
  assert.equal(presets({ patches: 'x' }, saved('lora', { file: 'a', patches: 'x' })), 'lora')
  assert.equal(presets({ file: null }, saved('none', {})), 'none')
})

test('what saving changes is said before, and what it changed after', () => {
  const now = { name: 'lemica-demo/30b10', budget: 10, steps: 30, origin: 'calibrated' }
  const wanted = { preset: 'fast', budget: 9, steps: 30, all: false }
  assert.equal(
    foretold(wanted, now),
    'fast: 9 of 30 instead of lemica-demo/30b10 (10 of 30, calibrated), for these steps only.'
  )
  assert.match(foretold({ ...wanted, all: true }, now), /calibrated\); other step counts are resampled from this/)
  assert.match(savedWords(wanted), /^Saved: .* preset fast now computes 9 of 30 steps, at these steps only\.$/)
  assert.match(savedWords({ ...wanted, all: true }), /other step counts are resampled/)
})

test('predicted and measured figures stand under their names', () => {
  const path = { speedup: 3, worst: 0.048, total: 0.3, computed: [0, 4], measured: null }
  assert.deepEqual(figuresOf(path).map(([name, value]) => `${name} ${value}`), [
    'speed-up 3.00×', 'predicted worst 0.048, in all 0.3', 'computed 0 4'
  ])
  const measured = { mean: 0.087, worst: 0.122, other: '' }
  assert.deepEqual(figuresOf({ ...path, measured })[2].slice(0, 2), ['measured', 'mean 0.087, worst 0.122'])
  const [name, , more] = figuresOf({ ...path, measured: { ...measured, other: 'mine/8b4' } })[2]
  assert.equal(name, 'measured on another path')
  assert.match(more, /^mine\/8b4 has as many/)
})

test('the name of a preset is never too long for a schedule', () => {
  assert.equal(presetName('mine', 'fast'), 'mine/fast')
  assert.equal(presetName('x'.repeat(120), 'ultra').length, 120)
})
