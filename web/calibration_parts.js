/**
 * Parts of the view of a calibration: its progress, and the figures of a path.
 */
import { describeProgress, isActive } from './calibration_state.js'
import { number } from './heat_scale.js'

/**
 * @param {HTMLElement} parent
 * @param {string} [name]
 */
export function part(parent, name = '') {
  const element = document.createElement('div')
  element.className = name
  parent.append(element)
  return element
}

/**
 * What is told of a path: a name, a value, and what to say more of it.
 * @param {import('./solved_path.js').SolvedPath} path
 * @returns {[string, string, string?][]}
 */
export function figuresOf({ speedup, worst, total, measured, computed }) {
  return [
    ['speed-up', `${speedup.toFixed(2)}×`],
    [
      'predicted', `worst ${number(worst)}, in all ${number(total)}`,
      'The errors of its single segments, from the error graph'
    ],
    ...(measured ? [measuredFigure(measured)] : []),
    ['computed', computed.join(' ')]
  ]
}

/** @returns {[string, string, string]} */
function measuredFigure({ mean, worst, other }) {
  const value = `mean ${number(mean)}, worst ${number(worst)}`
  return other
    ? ['measured on another path', value, `${other} has as many computed steps, and was run as a whole`]
    : ['measured', value, 'The errors of whole runs by this path, over the samples']
}

/** @param {import('./solved_path.js').SolvedPath} path */
export function figures(path) {
  return figuresOf(path).map(([name, value, more = '']) => {
    const figure = document.createElement('span')
    figure.className = 'lemica-figure'
    figure.title = more
    const term = document.createElement('span')
    term.textContent = name
    const number = document.createElement('b')
    number.textContent = value
    figure.append(term, number)
    return figure
  })
}

/** @param {HTMLElement} parent */
export function createProgress(parent) {
  const element = part(parent, 'lemica-progress')
  const words = part(element, 'lemica-progress-words')
  const headline = document.createElement('b')
  const estimate = document.createElement('span')
  words.append(headline, estimate)
  const bar = document.createElement('progress')
  bar.max = 1
  bar.setAttribute('aria-label', 'Calibration')
  const detail = part(element, 'lemica-progress-detail')
  words.after(bar)
  let since = 0
  let timer = 0
  /** @type {import('./calibration_state.js').CalibrationState | null} */
  let state = null

  function draw() {
    if (!state) return
    const passed = (performance.now() - since) / 1000
    const told = describeProgress(state, passed)
    headline.textContent = told.headline
    estimate.textContent = state.phase === 'running' ? state.estimate.split(',')[0] : ''
    detail.textContent = told.detail
    bar.classList.toggle('lemica-hidden', told.share === null)
    if (told.share !== null) bar.value = told.share
  }

  return {
    /** @param {import('./calibration_state.js').CalibrationState | null} next */
    show(next) {
      state = next
      since = performance.now()
      const shown = next !== null && next.phase !== 'idle' && next.phase !== 'done'
      element.classList.toggle('lemica-hidden', !shown)
      clearInterval(timer)
      if (next && isActive(next)) timer = window.setInterval(draw, 1000)
      draw()
    },
    rest: () => clearInterval(timer)
  }
}
