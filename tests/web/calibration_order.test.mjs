import assert from 'node:assert/strict'
import test from 'node:test'
import { costOrder, describeCost, effortOf } from '../../web/calibration_order.js'

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

test('a cost in words', () => {
  assert.equal(describeCost({ text: 'about 9 full runs' }), 'About 9 full runs.')
})
