import assert from 'node:assert/strict'
import test from 'node:test'
import { costOrder, describeCost, describeKept, effortOf, keptOrder } from '../../web/calibration_order.js'

const VALUES = {
  prompts: 'a cat\n\n a dog ', seeds: 2, steps: 20, longest: 0, tries: 4, mode: 'normal', rules: 'output', cfg: 3
}

test('samples are prompts, typed and connected, times seeds', () => {
  assert.deepEqual(costOrder(VALUES, 1, ''), {
    steps: 20, longest: 0, tries: 4, mode: 'normal', rules: 'output', samples: 6
  })
  assert.equal(costOrder(VALUES, 0, 'wan').family, 'wan')
})

test('there is no order for what is not known, or does not fit', () => {
  assert.equal(costOrder({ ...VALUES, steps: undefined }, 1, ''), null)
  assert.equal(costOrder({ ...VALUES, prompts: '' }, 0, ''), null)
  assert.equal(costOrder({ ...VALUES, longest: 21 }, 1, ''), null)
  assert.equal(costOrder({ ...VALUES, longest: 1 }, 1, ''), null)
})

test('the efforts of earlier versions are known', () => {
  assert.deepEqual(['quick', 'standard', 'exact', 'short'].map(effortOf), ['short', 'normal', 'exact', 'short'])
  assert.equal(costOrder({ ...VALUES, mode: 'quick' }, 1, '').mode, 'short')
})

const NAMED = {
  ...VALUES, name: ' night ', seed: 5, metric: 'l1', safe: true, sampler_name: 'euler', scheduler: 'simple', denoise: 1
}

test('what is kept is asked for by the name that is typed, or else by that of the last one', () => {
  assert.deepEqual(keptOrder(NAMED, 1, 'day'), {
    name: 'night', seed: 5, seeds: 2, tries: 4, mode: 'normal', safe: true, rules: 'output', metric: 'l1', longest: 0,
    connected: 1, prompts: ['a cat', 'a dog'], steps: 20,
    setup: { sampler: 'euler', scheduler: 'simple', cfg: 3, denoise: 1 }
  })
  assert.equal(keptOrder({ ...NAMED, name: '' }, 1, 'day').name, 'day')
  assert.equal(keptOrder({ ...NAMED, name: '' }, 1, undefined), null)
  assert.equal(keptOrder({ ...NAMED, prompts: '' }, 0, ''), null)
})

test('the custom twin knows neither steps nor sampler, and its prompts are names', () => {
  const { steps, sampler_name, scheduler, denoise, cfg, ...custom } = NAMED
  const order = keptOrder(custom, 2, '')
  assert.deepEqual([order.connected, order.prompts, 'steps' in order, 'setup' in order], [2, [], false, false])
})

test('what is kept in words', () => {
  const kept = { name: 'night', steps: 30, finished: false, different: [] }
  assert.equal(describeKept({ ...kept, steps: 0 }, 100, true), '')
  assert.match(describeKept(kept, 100, true), /^30 of at most 100 model steps are kept: .* where it stopped\.$/)
  assert.match(describeKept(kept, 0, true), /^30 model steps are kept/)
  assert.match(describeKept({ ...kept, finished: true }, 100, true), /^Finished: .* takes a moment\.$/)
  const other = { ...kept, different: ['cfg', 'steps'] }
  assert.match(describeKept(other, 100, true), /night with another cfg and steps: give this one another name/)
  assert.equal(describeKept(other, 100, false), '', 'without a name it gets one of its own')
})

test('a cost in words', () => {
  assert.equal(describeCost({ text: 'about 9 full runs' }), 'About 9 full runs.')
})
