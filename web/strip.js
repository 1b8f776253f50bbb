/**
 * The strip: one cell a step, filled where the model runs, hollow where its result is reused, coloured by rule.
 * Knows nothing of ComfyUI.
 */

/**
 * @typedef {object} Pattern
 * @property {number} steps
 * @property {number[]} computed 0-based and increasing; starts with 0
 * @property {string[]} rules one for each computed step
 */

/**
 * @typedef {object} Cell
 * @property {number} step
 * @property {boolean} computed
 * @property {string} rule by which the steps after the last computed one are reused
 */

export const RULES = [
  'output hold',
  'output half',
  'output linear',
  'output fitted',
  'residual hold',
  'residual half',
  'residual linear'
]

const LONGEST_ROW = 50
const MOST_CELLS = 400

/** The CSS class that colours a rule. */
export function ruleClass(rule) {
  return RULES.includes(rule)
    ? `lemica-rule-${rule.replace(' ', '-')}`
    : 'lemica-rule-other'
}

/**
 * @param {Pattern} pattern
 * @returns {Cell[]}
 */
export function cellsOf({ steps, computed, rules }) {
  const position = new Map(computed.map((step, index) => [step, index]))
  let rule = ''
  return Array.from({ length: steps }, (_, step) => {
    const index = position.get(step)
    if (index !== undefined) rule = rules[index] ?? rule
    return { step, computed: index !== undefined, rule }
  })
}

const UNFITTED = { 'output fitted': 'output half' }

/**
 * The same run with other computed steps; each has the rule that the pattern has there, or its like without a fit.
 * @param {Pattern} pattern
 * @param {number[]} computed
 * @returns {Pattern}
 */
export function withComputed(pattern, computed) {
  const cells = cellsOf(pattern)
  return {
    ...pattern,
    computed,
    rules: computed.map((step) => cells[step]?.rule ?? '').map((rule) => UNFITTED[rule] ?? rule)
  }
}

/**
 * The rules that reuse something, in the order of the legend.
 * @param {Pattern} pattern
 */
export function rulesInUse(pattern) {
  const used = new Set(
    cellsOf(pattern)
      .filter((cell) => !cell.computed)
      .map((cell) => cell.rule)
  )
  return RULES.filter((rule) => used.has(rule))
}

/** The computed steps after a click on one; the first one stays. */
export function toggled(computed, step) {
  if (step === 0) return computed
  return computed.includes(step)
    ? computed.filter((other) => other !== step)
    : [...computed, step].sort((a, b) => a - b)
}

export const formatSteps = (computed) => computed.join(',')

/**
 * The steps that a text like `0,3,7` lists.
 * @param {string} text
 * @param {number} steps of the run
 * @returns {{ computed: number[], error: string }} computed is empty for an empty text, and where there is an error
 */
export function parseSteps(text, steps) {
  const words = text.trim() ? text.split(',').map((word) => word.trim()) : []
  const computed = words.map(Number)
  const refuse = (error) => ({ computed: [], error })
  if (!words.length) return refuse('')
  if (!words.every((word) => /^\d{1,5}$/.test(word)))
    return refuse(`The chosen steps are "${text.slice(0, 80)}": give numbers.`)
  if (computed[0] !== 0)
    return refuse('Step 0 is not chosen: it has nothing to reuse.')
  if (computed.some((step, index) => index && step <= computed[index - 1]))
    return refuse('The chosen steps are not in order.')
  const last = computed[computed.length - 1]
  if (last >= steps)
    return refuse(
      `Step ${last} is chosen, but the run has ${steps} steps, the last is ${steps - 1}.`
    )
  return { computed, error: '' }
}

/** Rows of equal length, none longer than 50 cells. */
export function gridOf(steps) {
  const rows = Math.max(Math.ceil(steps / LONGEST_ROW), 1)
  return { rows, columns: Math.ceil(steps / rows) }
}

/**
 * Where a key takes the focus.
 * @returns {number | null} null when the key is not for the strip
 */
export function focusAfter(key, step, steps) {
  const { columns } = gridOf(steps)
  const target = {
    ArrowLeft: step - 1,
    ArrowRight: step + 1,
    ArrowUp: step - columns,
    ArrowDown: step + columns,
    Home: 0,
    End: steps - 1
  }[key]
  if (target === undefined) return null
  return target < 0 || target >= steps ? step : target
}

/** What a screen reader says of a whole strip. */
export function describePattern({ steps, computed }) {
  return `${computed.length} of ${steps} steps computed: ${computed.join(', ')}`
}

/**
 * A strip that is kept up to date in place, so that a cell keeps its focus.
 * @param {{ onToggle?: (step: number) => void }} options
 */
export function createStrip({ onToggle } = {}) {
  const element = document.createElement('div')
  element.className = 'lemica-strip'
  /** @type {HTMLElement[]} */
  let spans = []
  let editable = false
  let focused = 0

  const stepOf = (target) => spans.indexOf(target)

  function focusOn(step) {
    spans[focused]?.setAttribute('tabindex', '-1')
    focused = step
    spans[step].setAttribute('tabindex', '0')
    spans[step].focus()
  }

  element.addEventListener('click', ({ target }) => {
    const step = stepOf(target)
    if (!editable || step < 0) return
    focusOn(step)
    onToggle?.(step)
  })
  element.addEventListener('keydown', (event) => {
    const step = stepOf(event.target)
    if (!editable || step < 0 || event.ctrlKey || event.metaKey || event.altKey)
      return
    const next = focusAfter(event.key, step, spans.length)
    if (next !== null) focusOn(next)
    else if (event.key === ' ' || event.key === 'Enter') onToggle?.(step)
    else return
    event.preventDefault()
    event.stopPropagation()
  })

  function build(count) {
    spans = Array.from({ length: count }, () => document.createElement('span'))
    focused = 0
    const { columns } = gridOf(count)
    element.style.setProperty('--lemica-columns', String(columns))
    element.replaceChildren(...spans)
  }

  /**
   * @param {Pattern} pattern
   * @param {{ editable?: boolean, current?: number | null }} state
   */
  function show(pattern, state = {}) {
    const cells = pattern.steps <= MOST_CELLS ? cellsOf(pattern) : []
    if (cells.length !== spans.length) build(cells.length)
    editable = Boolean(state.editable) && cells.length > 0
    element.setAttribute('role', editable ? 'group' : 'img')
    element.setAttribute('aria-label', describePattern(pattern))
    element.classList.toggle('lemica-editable', editable)
    cells.forEach((cell, index) => showCell(spans[index], cell, state))
  }

  function showCell(span, { step, computed, rule }, { current = null }) {
    const kind = computed ? 'lemica-computed' : 'lemica-reused'
    const now = step === current ? ' lemica-current' : ''
    span.className = `${kind} ${ruleClass(rule)}${now}`
    const what = computed ? 'computed' : `reused, ${rule}`
    span.title = `step ${step}: ${what}`
    if (editable) {
      span.setAttribute('role', 'checkbox')
      span.setAttribute('aria-checked', String(computed))
      span.setAttribute('aria-disabled', String(step === 0))
      span.setAttribute('aria-label', `step ${step}`)
      span.setAttribute('tabindex', step === focused ? '0' : '-1')
    } else {
      for (const name of ['role', 'aria-checked', 'aria-disabled', 'tabindex'])
        span.removeAttribute(name)
      span.removeAttribute('aria-label')
    }
  }

  return { element, show }
}

/**
 * Swatches with the names of the rules in use.
 * @param {string[]} rules
 */
export function createLegend(rules) {
  const legend = document.createElement('div')
  legend.className = 'lemica-legend'
  legend.append(
    ...rules.map((rule) => {
      const item = document.createElement('span')
      const swatch = document.createElement('i')
      swatch.className = ruleClass(rule)
      item.append(swatch, rule)
      return item
    })
  )
  return legend
}
