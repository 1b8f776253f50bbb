import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import {
  RULES, cellsOf, describePattern, focusAfter, formatSteps, gridOf, parseSteps, ruleClass, rulesInUse, toggled,
  withComputed
} from '../../web/strip.js'

const pattern = { steps: 6, computed: [0, 2, 5], rules: ['output hold', 'output half', 'residual linear'] }

test('one cell a step, with the rule of the last computed step', () => {
  const cells = cellsOf(pattern)
  assert.deepEqual(cells.map(({ step }) => step), [0, 1, 2, 3, 4, 5])
  assert.deepEqual(cells.map(({ computed }) => computed), [true, false, true, false, false, true])
  assert.deepEqual(cells.map(({ rule }) => rule.split(' ')[1]), ['hold', 'hold', 'half', 'half', 'half', 'linear'])
})

test('the legend has the rules that reuse something, in one order', () => {
  assert.deepEqual(rulesInUse(pattern), ['output hold', 'output half'])
  const turned = { ...pattern, rules: ['residual half', 'output half', 'output hold'] }
  assert.deepEqual(rulesInUse(turned), ['output half', 'residual half'])
})

test('other computed steps have the rules that the pattern has there', () => {
  const other = withComputed(pattern, [0, 1, 3])
  assert.deepEqual(other.rules, ['output hold', 'output hold', 'output half'])
  assert.equal(other.steps, 6)
  assert.deepEqual(pattern.computed, [0, 2, 5])
})

test('steps chosen by hand have no fit', () => {
  const fitted = { steps: 6, computed: [0, 2], rules: ['output fitted', 'output fitted'] }
  assert.deepEqual(rulesInUse(fitted), ['output fitted'])
  assert.deepEqual(withComputed(fitted, [0, 1, 3]).rules, ['output half', 'output half', 'output half'])
})

test('a click computes a step or not, but for the first', () => {
  assert.deepEqual(toggled([0, 4], 2), [0, 2, 4])
  assert.deepEqual(toggled([0, 2, 4], 2), [0, 4])
  assert.deepEqual(toggled([0, 9], 10), [0, 9, 10])
  assert.deepEqual(toggled([0, 2], 0), [0, 2])
})

test('steps are written and read alike', () => {
  const steps = [0, 3, 7, 11]
  assert.deepEqual(parseSteps(formatSteps(steps), 12), { computed: steps, error: '' })
  assert.deepEqual(parseSteps(' 0, 3 ,7', 12).computed, [0, 3, 7])
  assert.deepEqual(parseSteps('  ', 12), { computed: [], error: '' })
})

for (const [text, said] of [
  ['0,x', /"0,x": give numbers/],
  ['0,,3', /give numbers/],
  ['0,-2', /give numbers/],
  ['1,3', /Step 0 is not chosen/],
  ['0,5,3', /not in order/],
  ['0,3,3', /not in order/],
  ['0,12', /Step 12 is chosen, but the run has 12 steps, the last is 11/]
]) {
  test(`steps that cannot be run are refused: ${text}`, () => {
    const { computed, error } = parseSteps(text, 12)
    assert.deepEqual(computed, [])
    assert.match(error, said)
  })
}

test('rows are of equal length, none longer than 50', () => {
  assert.deepEqual(gridOf(30), { rows: 1, columns: 30 })
  assert.deepEqual(gridOf(50), { rows: 1, columns: 50 })
  assert.deepEqual(gridOf(51), { rows: 2, columns: 26 })
  assert.deepEqual(gridOf(120), { rows: 3, columns: 40 })
})

test('keys move the focus within the strip and leave other keys alone', () => {
  assert.equal(focusAfter('ArrowRight', 3, 120), 4)
  assert.equal(focusAfter('ArrowLeft', 0, 120), 0)
  assert.equal(focusAfter('ArrowDown', 3, 120), 43)
  assert.equal(focusAfter('ArrowDown', 100, 120), 100)
  assert.equal(focusAfter('Home', 60, 120), 0)
  assert.equal(focusAfter('End', 60, 120), 119)
  assert.equal(focusAfter('a', 3, 120), null)
})

test('a screen reader is told the whole strip', () => {
  assert.equal(describePattern(pattern), '3 of 6 steps computed: 0, 2, 5')
})

test('every rule has a class, and so has one that is not known', () => {
  assert.equal(ruleClass('residual half'), 'lemica-rule-residual-half')
  assert.equal(ruleClass('anything'), 'lemica-rule-other')
})

const css = readFileSync(new URL('../../web/lemica.css', import.meta.url), 'utf8')

/** The colours of the rules as linear RGB, in the dark theme or the light one. */
function colours(dark) {
  const before = dark ? '\\.dark-theme ' : '\\n'
  return RULES.map((rule) => {
    const [, hex] = css.match(new RegExp(`${before}\\.${ruleClass(rule)} \\{\\s*--lemica-rule: (#[0-9a-f]{6})`))
    return linear(hex)
  })
}

const linear = (hex) =>
  [1, 3, 5].map((at) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  })

const times = (matrix, rgb) =>
  matrix.map((row) => row.reduce((sum, weight, index) => sum + weight * rgb[index], 0))

const luminance = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b)
  return (light + 0.05) / (dark + 0.05)
}

function lab(rgb) {
  const [x, y, z] = times(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
    rgb.map((value) => Math.min(Math.max(value, 0), 1))
  ).map((value, index) => {
    const part = value / [0.9505, 1, 1.089][index]
    return part > 0.008856 ? Math.cbrt(part) : 7.787 * part + 16 / 116
  })
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)]
}

/** Machado, Oliveira and Fernandes (2009), of full severity. */
const SEEN = {
  'all colours': [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
}

for (const [theme, surfaces] of [['dark', ['#353535', '#262729']], ['light', ['#ffffff']]]) {
  test(`the colours stand out from the nodes of the ${theme} theme`, () => {
    for (const surface of surfaces)
      for (const colour of colours(theme === 'dark')) assert.ok(contrast(colour, linear(surface)) >= 3)
  })

  for (const [sight, matrix] of Object.entries(SEEN)) {
    test(`the colours of the ${theme} theme are told apart: ${sight}`, () => {
      const seen = colours(theme === 'dark').map((rgb) => lab(times(matrix, rgb)))
      seen.forEach((one, index) =>
        seen.slice(index + 1).forEach((other) =>
          assert.ok(Math.hypot(...one.map((value, axis) => value - other[axis])) > 15)
        )
      )
    })
  }
}
