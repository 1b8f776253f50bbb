/**
 * The view of a calibration: progress, error graph, what budgets cost, and saving one as a preset. Used by the
 * calibrate nodes and by LeMiCa Solve. Knows nothing of ComfyUI but the service that it is given.
 */
import { createBudgetCurve, describePoint, indexOf } from './budget_curve.js'
import { createProgress, figures, part } from './calibration_parts.js'
import { isActive, measuredCells } from './calibration_state.js'
import { createHeatMap } from './heat_map.js'
import { newest } from './newest.js'
import {
  DEFAULTS, PRESETS, foretold, isDefault, presetName, savedPresets, savedWords
} from './presets.js'

/** @typedef {import('./presets.js').Options} Options */

/**
 * @param {HTMLElement} element that is filled
 * @param {object} given
 * @param {any} given.service
 * @param {(budget: number) => void} [given.onBudget] the user chose a budget
 * @param {() => void} [given.onSaved]
 * @param {() => void} [given.onResize] another height is needed
 */
export function createCalibrationView(element, given) {
  element.classList.add('lemica-calibration')
  const hint = part(element, 'lemica-hint')
  const progress = createProgress(element)
  const map = createHeatMap(part(element))
  element.append(map.detail)
  const curve = createBudgetCurve(part(element), (index) => choose(index, true))
  const controls = part(element, 'lemica-controls')
  const label = document.createElement('label')
  label.className = 'lemica-budget'
  const caption = document.createElement('span')
  const slider = document.createElement('input')
  slider.type = 'range'
  slider.className = 'lemica-slider'
  label.append(caption, slider)
  const numbers = part(controls, 'lemica-numbers')
  const saves = part(controls, 'lemica-saves')
  const message = part(controls, 'lemica-message')
  const words = document.createElement('span')
  words.setAttribute('role', 'status')
  const undo = document.createElement('button')
  undo.type = 'button'
  undo.className = 'lemica-button lemica-undo'
  message.append(words, undo)
  controls.prepend(label)
  const buttons = PRESETS.map((preset) => {
    const button = document.createElement('button')
    button.type = 'button'
    button.className = 'lemica-button'
    button.dataset.preset = preset
    button.addEventListener('click', () => save(preset))
    for (const event of ['pointerenter', 'focus']) button.addEventListener(event, () => foretell(preset))
    for (const event of ['pointerleave', 'blur']) button.addEventListener(event, () => forgetForetold())
    return button
  })
  const savesCaption = document.createElement('span')
  savesCaption.textContent = 'Save as'
  const scope = document.createElement('label')
  const all = document.createElement('input')
  all.type = 'checkbox'
  all.className = 'lemica-all-steps'
  scope.append(all, 'for all step counts')
  saves.append(savesCaption, ...buttons, scope)

  /** @type {any} what GET /lemica/calibration gave */
  let calibration = null
  /** @type {import('./budget_curve.js').CurvePoint[]} */
  let points = []
  let chosen = 0
  /** @type {Options} */
  let options = DEFAULTS
  /** @type {Record<string, { budget: number, name: string }>} */
  let saved = {}
  /** @type {{ preset: string, saved: any, replaced: any } | null} the last save */
  let last = null
  /** @type {import('./calibration_state.js').CalibrationState | null} */
  let running = null

  /** Whether the rule that is asked for was measured; the message says so if it was not. */
  function measures() {
    const known = options.rule === null || calibration.rules.includes(options.rule)
    if (!known) {
      solving.forget()
      showPath(null)
      words.textContent =
        `This calibration has not measured ${options.rule}: choose ${calibration.rules.join(' or ')}.`
    }
    return known
  }

  const solving = newest(
    (/** @type {{ budget: number, curve: boolean }} */ wanted) =>
      given.service.solve({ calibration: calibration.name, ...options, ...wanted }),
    (solved) => {
      if (solved.curve) showCurve(solved.curve, solved.budget)
      showPath(solved)
      words.textContent = ''
    },
    (error) => {
      showPath(null)
      words.textContent = error.message
    }
  )

  const wantedOf = (/** @type {string} */ preset) => ({
    preset, budget: points[chosen].budget, steps: calibration.steps, all: all.checked
  })

  /** Says what a click would change. */
  const foretelling = newest(
    (/** @type {string} */ preset) =>
      given.service.plan({
        calibration: calibration.name, family: calibration.family, steps: calibration.steps,
        sigmas: calibration.sigmas, preset
      }).then((/** @type {any} */ now) => foretold(wantedOf(preset), now)),
    (told) => {
      words.textContent = told
      words.dataset.foretold = 'true'
    },
    (error) => {
      words.textContent = error.message
    }
  )

  function foretell(/** @type {string} */ preset) {
    if (calibration && points.length) foretelling.request(preset)
  }

  function forgetForetold() {
    foretelling.forget()
    if (!words.dataset.foretold) return
    delete words.dataset.foretold
    words.textContent = ''
  }

  slider.addEventListener('input', () => choose(Number(slider.value), true))
  // Not for the canvas below, which has keys and a wheel of its own.
  slider.addEventListener('keydown', (event) => event.stopPropagation())

  function choose(/** @type {number} */ index, byUser = false) {
    chosen = index
    slider.value = String(index)
    curve.choose(index)
    const point = points[index]
    slider.setAttribute('aria-valuetext', describePoint(point))
    caption.textContent = `budget ${point.budget} of ${calibration.steps}`
    labelSaves()
    if (measures()) solving.request({ budget: point.budget, curve: false })
    if (byUser) given.onBudget?.(point.budget)
  }

  function showCurve(/** @type {any[]} */ next, /** @type {number} */ budget) {
    points = next
    chosen = indexOf(points, budget)
    slider.min = '0'
    slider.max = String(points.length - 1)
    slider.value = String(chosen)
    slider.setAttribute('aria-label', 'Budget: the number of computed steps')
    slider.setAttribute('aria-valuetext', describePoint(points[chosen]))
    caption.textContent = `budget ${points[chosen].budget} of ${calibration.steps}`
    curve.setCurve(points, chosen, calibration?.presets ?? {})
    labelSaves()
  }

  function showPath(/** @type {any} */ next) {
    map.setPath(next)
    element.dataset.budget = next ? String(next.budget) : ''
    numbers.replaceChildren(...(next ? figures(next) : []))
  }

  function labelSaves() {
    for (const button of buttons) {
      const preset = button.dataset.preset ?? ''
      const known = saved[preset]
      button.textContent = known ? `${preset} · ${known.budget}` : preset
      button.classList.toggle('lemica-saved', known !== undefined)
    }
  }

  function setLast(/** @type {typeof last} */ next) {
    last = next
    undo.classList.toggle('lemica-hidden', next === null)
    undo.textContent = next ? `Undo saving ${next.preset}` : ''
  }

  async function save(/** @type {string} */ preset) {
    if (!calibration || !points.length) return
    const wanted = wantedOf(preset)
    const name = presetName(calibration.name, preset)
    foretelling.forget()
    delete words.dataset.foretold
    try {
      const done = await given.service.save({
        calibration: calibration.name, budget: wanted.budget, ...options, preset, name, replace: true,
        scope: wanted.all ? 'all steps' : 'these steps'
      })
      saved = { ...saved, [preset]: { budget: wanted.budget, name } }
      labelSaves()
      setLast({ preset, saved: done.saved, replaced: done.replaced })
      words.textContent = savedWords(wanted)
      given.onSaved?.()
    } catch (error) {
      words.textContent = /** @type {Error} */ (error).message
    }
  }

  undo.addEventListener('click', async () => {
    if (!last) return
    const [undone, of] = [last, calibration]
    const { preset, ...change } = undone
    setLast(null)
    try {
      await given.service.undo(change)
      const library = await given.service.library()
      given.onSaved?.()
      if (calibration !== of) return
      saved = savedPresets(library, of)
      labelSaves()
      words.textContent = `Undone: preset ${preset} is what it was.`
    } catch (error) {
      setLast(undone)
      words.textContent = /** @type {Error} */ (error).message
    }
  })

  let asked = 0
  let hints = ['', '']

  const view = {
    element,
    /** How much height is needed, in CSS pixels. */
    minHeight() {
      if (calibration) return hints[1] ? 562 : 540
      if (running && measuredCells(running).length) return 330
      return 64
    },
    /**
     * @param {string} words shown while there is nothing else
     * @param {string} [beside] shown beside a calibration
     */
    setHint(words, beside = '') {
      hints = [words, beside]
      arrange()
    },
    get name() {
      return calibration?.name ?? ''
    },
    get family() {
      return calibration?.family ?? ''
    },
    /**
     * Show a saved calibration; the answer is whether there is one.
     * @param {string} name
     * @param {(calibration: any) => number} budgetOf
     */
    async open(name, budgetOf) {
      const mine = ++asked
      try {
        const library = await given.service.library()
        const known = library.calibrations.some((entry) => entry.name === name)
        const found = known ? await given.service.calibration(name) : null
        if (mine !== asked) return false
        if (!found) {
          view.close()
          return false
        }
        solving.forget()
        calibration = found
        saved = savedPresets(library, found)
        map.setData(found)
        showPath(null)
        const budget = budgetOf(found)
        words.textContent = ''
        setLast(null)
        showCurve(found.curve, budget)
        if (isDefault(options)) choose(chosen)
        else if (measures()) solving.request({ budget, curve: true })
        arrange()
        return true
      } catch (error) {
        if (mine === asked) {
          view.close()
          view.setHint(/** @type {Error} */ (error).message)
        }
        return false
      }
    },
    close() {
      asked += 1
      solving.forget()
      calibration = null
      points = []
      map.setData(null)
      curve.setCurve([], 0, {})
      showPath(null)
      arrange()
    },
    /** @param {number} budget */
    setBudget(budget) {
      if (points.length && points[chosen].budget !== budget) choose(indexOf(points, budget))
    },
    /** @param {Options} next */
    setOptions(next) {
      if (JSON.stringify(next) === JSON.stringify(options)) return
      options = next
      if (calibration && measures()) {
        solving.request({ budget: points[chosen].budget, curve: true })
      }
    },
    presets: () => calibration?.presets ?? {},
    /**
     * Show a calibration that runs, or what became of it.
     * @param {import('./calibration_state.js').CalibrationState} state
     */
    showProgress(state) {
      running = state
      progress.show(state)
      const cells = measuredCells(state)
      if (isActive(state) || state.phase === 'stopped') {
        if (calibration) view.close()
        map.setData(state.grid && cells.length ? { ...state.grid, cells } : null)
      }
      arrange()
    },
    /** No timer goes on, and no answer is waited for. */
    rest() {
      asked += 1
      solving.forget()
      progress.rest()
    }
  }

  let height = 0

  function arrange() {
    const shown = calibration !== null
    controls.classList.toggle('lemica-hidden', !shown)
    const active = running !== null && running.phase !== 'idle'
    hint.textContent = hints[shown ? 1 : 0]
    hint.classList.toggle('lemica-hidden', (active && !shown) || !hint.textContent)
    const needed = view.minHeight()
    if (needed !== height) {
      height = needed
      element.style.setProperty('--lemica-height', `${needed}px`)
      given.onResize?.()
    }
  }

  setLast(null)
  map.setData(null)
  curve.setCurve([], 0, {})
  progress.show(null)
  arrange()
  return view
}
