import assert from 'node:assert/strict'
import test from 'node:test'
import { cellAt, cellBox, mapLayout, moved } from '../../web/heat_layout.js'
import {
  RULE_COLOURS, logScale, logTicks, number, place, ruleColour, tickGap, viridis
} from '../../web/heat_scale.js'
import { byPlace, describeCell, pathSegments } from '../../web/solved_path.js'

const DATA = { steps: 20, longest: 6, cells: [] }
const PATH = {
  steps: 8, budget: 3, computed: [0, 1, 5], rules: ['output hold', 'output linear', 'output hold'],
  errors: [0, 0.2, 0.1], worst: 0.2, total: 0.3, speedup: 2.6
}

test('the middle of every cell leads back to its segment', () => {
  for (const [width, height] of [[420, 240], [225, 170], [1400, 900]]) {
    const layout = mapLayout(DATA, width, height)
    assert.ok(layout.strip < height)
    for (let length = 2; length <= DATA.longest; length += 1) {
      for (let start = 0; start + length <= DATA.steps; start += 1) {
        const [x, y, wide, high] = cellBox(layout, start, length)
        assert.deepEqual(cellAt(layout, x + wide / 2, y + high / 2), { start, length })
      }
    }
  }
})

test('outside the map, and beyond the last step, is no segment', () => {
  const layout = mapLayout(DATA, 420, 240)
  assert.equal(cellAt(layout, 2, layout.top + 3), null)
  const [x, y] = cellBox(layout, DATA.steps - 2, 3)
  assert.equal(cellAt(layout, x + 1, y + 1), null)
})

test('arrow keys go from segment to segment, and stay at the edges', () => {
  const at = { start: 3, length: 4 }
  assert.deepEqual(moved(DATA, at, 'ArrowRight'), { start: 4, length: 4 })
  assert.deepEqual(moved(DATA, at, 'ArrowUp'), { start: 3, length: 5 })
  assert.deepEqual(moved(DATA, at, 'End'), { start: 16, length: 4 })
  assert.equal(moved(DATA, { start: 0, length: 2 }, 'ArrowLeft').start, 0)
  assert.deepEqual(moved(DATA, { start: 16, length: 4 }, 'ArrowUp'), { start: 16, length: 4 })
  assert.equal(moved(DATA, at, 'a'), at)
})

test('a segment in words', () => {
  const cells = byPlace([[1, 5, 0.2, 0.3, 0.05, 'output linear']])
  const words = describeCell({ start: 1, length: 4 }, cells.get('1 4'), PATH)
  assert.equal(
    words, 'compute step 1, reuse 2–4: error 0.2 ± 0.05, worst 0.3, output linear (in the path)'
  )
  assert.equal(
    describeCell({ start: 2, length: 2 }, undefined, null), 'compute step 2, reuse 3: not measured'
  )
})

test('a segment of a path that reuses nothing has no rule', () => {
  assert.deepEqual(pathSegments(PATH), [
    { start: 0, end: 1, rule: null },
    { start: 1, end: 5, rule: 'output linear' },
    { start: 5, end: 8, rule: 'output hold' }
  ])
})

test('colours and scales are those of the pictures', () => {
  assert.equal(viridis(0), 'rgb(68 1 84)')
  assert.equal(viridis(1), 'rgb(253 231 37)')
  assert.equal(viridis(4.5 / 9), 'rgb(35 144 140)')
  assert.equal(ruleColour('output hold'), RULE_COLOURS['output hold'])
  const scale = logScale([0, 0.001, 0.1, NaN])
  assert.deepEqual(scale, { low: 0.001, high: 0.1 })
  assert.ok(Math.abs(place(scale, 0.01) - 0.5) < 1e-9)
  assert.equal(place(scale, 0), 0)
  const near = logScale([1, 1.05])
  assert.ok(near.low < 1 && near.high > 1.05)
  assert.deepEqual(logScale([]), { low: 1 / 1.5, high: 1.5 })
})

test('ticks are round, lie on the scale and stand apart', () => {
  for (const values of [[0.001, 0.1], [3, 4], [0.9, 1.1], [1e-9, 5], [2, 2], [1e-300, 1e300]]) {
    const scale = logScale(values)
    const ticks = logTicks(scale, 0.2)
    assert.ok(ticks.length >= 1, String(values))
    const places = ticks.map((tick) => place(scale, tick))
    places.slice(1).forEach((at, index) => assert.ok(at - places[index] >= 0.2))
  }
  assert.deepEqual(logTicks({ low: 0.001, high: 0.1 }, 0.3), [0.001, 0.01, 0.1])
})

test('numbers are short', () => {
  assert.deepEqual(
    [0, 0.0213456, 12, 1234, 0.00001234, 12345678].map(number),
    ['0', '0.0213', '12', '1230', '1.23e-5', '1.23e7']
  )
  assert.equal(tickGap(50, 8, 20), 5)
})
