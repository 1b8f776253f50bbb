/** The panel of the LeMiCa node: strip, figures, legend, the schedule's name and notes. Knows nothing of ComfyUI. */

import { createLegend, createStrip, rulesInUse } from './strip.js'

/** @typedef {import('./run_view.js').Panel} Panel */

/**
 * @param {string} tag
 * @param {string} className
 */
function make(tag, className, ...children) {
  const element = document.createElement(tag)
  element.className = className
  element.append(...children)
  return element
}

/**
 * @param {{ onToggle: (step: number) => void, onReset: () => void }} options
 */
export function createPanel({ onToggle, onReset }) {
  const strip = createStrip({ onToggle })
  const count = make('span', 'lemica-count')
  const speed = make('strong', '')
  const kind = make('small', '')
  const legend = make('div', '')
  const name = make('span', 'lemica-name')
  const origin = make('span', 'lemica-origin')
  const reset = make('button', 'lemica-reset', 'reset')
  const notes = make('div', 'lemica-notes')
  const error = make('div', 'lemica-error')
  reset.type = 'button'
  reset.title = 'Back to the schedule for the budget'
  reset.addEventListener('click', onReset)
  error.setAttribute('role', 'alert')
  const content = make(
    'div',
    'lemica-panel',
    make('div', 'lemica-head', count, make('span', 'lemica-speed', speed, kind)),
    strip.element,
    legend,
    make('div', 'lemica-origin-line', name, origin, reset),
    notes,
    error
  )
  const element = make('div', 'lemica-run', content)

  /** @param {Panel & { invalid: boolean }} panel */
  function show(panel) {
    strip.element.hidden = panel.pattern === null
    if (panel.pattern !== null) {
      strip.show(panel.pattern, panel)
      legend.replaceChildren(createLegend(rulesInUse(panel.pattern)))
    } else legend.replaceChildren()
    count.textContent = panel.count
    speed.textContent = panel.speed
    kind.textContent = panel.speedKind
    content.dataset.speed = panel.speedKind
    name.textContent = name.title = panel.name
    origin.textContent = panel.origin
    origin.dataset.origin = panel.origin
    origin.hidden = !panel.origin
    reset.hidden = !panel.byHand && !panel.invalid
    notes.replaceChildren(...panel.notes.map((text) => make('div', '', text)))
    notes.title = panel.notes.join('\n')
    error.textContent = panel.error
    error.hidden = !panel.error
  }

  return { element, content, show }
}
