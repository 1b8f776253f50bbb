/**
 * Colours, logarithmic scales and numbers of the calibration views: those of calibration/draw.py, so that the picture
 * of a calibration and the page look alike. Pure.
 */

/** Okabe and Ito's colours for the colour-blind, and a violet. */
export const RULE_COLOURS = {
  'output hold': '#0072b2',
  'output half': '#56b4e9',
  'output linear': '#009e73',
  'output fitted': '#7d1fd6',
  'residual hold': '#d55e00',
  'residual half': '#e69f00',
  'residual linear': '#cc79a7'
}
export const COMPUTED_COLOUR = '#82848c'

const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 73, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37]
]
const DECADES = 6

/** @param {string | null} rule */
export const ruleColour = (rule) =>
  RULE_COLOURS[/** @type {keyof typeof RULE_COLOURS} */ (rule)] ?? COMPUTED_COLOUR

/**
 * The colour of a place from 0 to 1, dark to bright.
 * @param {number} place
 */
export function viridis(place) {
  const at = Math.min(Math.max(place, 0), 1) * (VIRIDIS.length - 1)
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2)
  const channels = VIRIDIS[low].map((from, channel) =>
    Math.round(from + (VIRIDIS[low + 1][channel] - from) * (at - low))
  )
  return `rgb(${channels.join(' ')})`
}

/**
 * @typedef {object} LogScale
 * @property {number} low
 * @property {number} high
 */

/**
 * The scale of the finite positive values in the largest six decades, widened where they are nearly equal.
 * @param {Iterable<number>} values
 * @returns {LogScale}
 */
export function logScale(values) {
  let [least, high] = [Infinity, 0]
  for (const value of values) {
    if (value > 0 && value < Infinity) {
      least = Math.min(least, value)
      high = Math.max(high, value)
    }
  }
  if (!high) [least, high] = [1, 1]
  high = Math.min(Math.max(high, 1e-290), 1e300)
  const low = Math.min(Math.max(least, high * 10 ** -DECADES), high)
  return high > low * 1.2 ? { low, high } : { low: low / 1.5, high: high * 1.5 }
}

/**
 * Where a value lies, from 0 to 1; what is outside, and 0, is moved to the nearest end.
 * @param {LogScale} scale
 * @param {number} value
 */
export function place(scale, value) {
  const inside = Math.min(Math.max(value, scale.low), scale.high)
  return Math.log(inside / scale.low) / Math.log(scale.high / scale.low)
}

/**
 * Round values on the scale that stand `room` apart, a part of its length.
 * @param {LogScale} scale
 * @param {number} room
 * @returns {number[]}
 */
export function logTicks(scale, room) {
  const held = (/** @type {number[]} */ values) =>
    values.filter((value) => value >= scale.low && value <= scale.high)
  const places = range(
    Math.floor(Math.log10(scale.low)), Math.ceil(Math.log10(scale.high)) + 1
  )
  const decades = (/** @type {number[]} */ digits, every = 1) =>
    held(
      places
        .filter((power) => power % every === 0)
        .flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`)))
    )
  const choices = [
    range(1, 10), [1, 2, 5], [1, 3], [1]
  ].map((digits) => decades(digits))
  choices.push(...range(2, 7).map((every) => decades([1], every)))
  if (scale.high < 3 * scale.low) {
    const step = 10 ** Math.floor(Math.log10(scale.high - scale.low))
    choices.unshift(...[0.2, 0.5, 1, 2, 5].map((size) => {
      const first = Math.ceil(scale.low / (step * size))
      const last = Math.floor(scale.high / (step * size))
      return range(first, last + 1).map((count) => count * step * size)
    }))
  }
  const apart = (/** @type {number[]} */ ticks) =>
    ticks.length > 0 &&
    ticks.slice(1).every(
      (tick, index) => place(scale, tick) - place(scale, ticks[index]) >= room
    )
  return choices.find(apart) ?? [scale.high]
}

/**
 * Every how many of `count` numbered places, `spacing` pixels apart, a number has `room` pixels.
 * @param {number} count
 * @param {number} spacing
 * @param {number} room
 */
export function tickGap(count, spacing, room) {
  for (let power = 1; ; power *= 10) {
    for (const size of [1, 2, 5]) {
      const gap = size * power
      if (gap * spacing >= room || gap >= count) return gap
    }
  }
}

/**
 * A number with three digits, as short as that goes.
 * @param {number} value
 */
export function number(value) {
  const short = Number(value.toPrecision(3))
  const small = short !== 0 && Math.abs(short) < 1e-4
  return small || Math.abs(short) >= 1e6
    ? short.toExponential().replace('e+', 'e')
    : String(short)
}

/**
 * @param {number} from
 * @param {number} to
 */
export const range = (from, to) =>
  Array.from({ length: Math.max(to - from, 0) }, (_, index) => from + index)
