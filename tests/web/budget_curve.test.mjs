import assert from 'node:assert/strict'
import test from 'node:test'
import { curveLayout, describePoint, indexOf, nearest } from '../../web/budget_curve.js'

const CURVE = [2, 3, 5, 8].map((budget) => ({
  budget, worst: budget === 8 ? 0 : 1 / budget, total: 2 / budget, speedup: 8 / budget
}))

test('errors fall and speed-ups fall to the right, within the frame', () => {
  const layout = curveLayout(CURVE, 400, 150)
  for (const line of [layout.errors, layout.speeds]) {
    line.forEach(([x, y], index) => {
      assert.ok(x >= layout.left && x <= layout.right && y >= layout.top && y <= layout.bottom)
      if (index) assert.ok(x > line[index - 1][0] && y >= line[index - 1][1])
    })
  }
})

test('a horizontal position leads to the nearest budget', () => {
  const layout = curveLayout(CURVE, 400, 150)
  layout.errors.forEach(([x], index) => assert.equal(nearest(layout, x + 3), index))
  assert.equal(nearest(layout, -50), 0)
  assert.equal(nearest(layout, 5000), 3)
})

test('a budget without a path goes to the nearest one with one', () => {
  assert.deepEqual([1, 2, 4, 6, 99].map((budget) => indexOf(CURVE, budget)), [0, 0, 1, 2, 3])
})

test('one budget alone, without an error, is drawn too', () => {
  const layout = curveLayout([CURVE[3]], 100, 10)
  assert.ok(layout.errors.flat().every(Number.isFinite))
  assert.deepEqual(layout.errorTicks.map(({ label }) => label), ['0'])
})

test('a point in words', () => {
  assert.equal(describePoint(CURVE[0]), '2 steps: predicted worst error 0.5, 4.00× faster')
})
