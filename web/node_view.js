/** The view of one LeMiCa node: reads its widgets, asks for a plan, draws, and writes the steps chosen by hand. */
import { app } from '../../scripts/app.js'
import { chain, service, widgetOf } from './calibration_node.js'
import { familyOf, rememberFamily } from './families_seen.js'
import {
  CUSTOM,
  chosenSteps,
  createPlanner,
  knownFrom,
  planAsker,
  planRequest
} from './plan.js'
import { createPanel } from './run_panel.js'
import { panelOf } from './run_view.js'
import { isLinked, valueAt } from './links.js'
import { idleWord, modelName, samplerSteps } from './sampler.js'
import { samplingBehind } from './sampling.js'
import { formatSteps, toggled } from './strip.js'

export const SETTINGS = ['preset', 'budget', 'schedule', 'rule', 'steps', 'learn']
const DEFAULT_STEPS = 20

/** @returns {import('./plan.js').Settings} */
function settingsOf(node) {
  const [preset, budget, schedule, rule, chosen, learn] = SETTINGS.map(
    (name) => valueAt(node, name, app.rootGraph) ?? widgetOf(node, name)?.value
  )
  return { preset, budget, schedule, rule, learn, chosen: String(chosen ?? '') }
}

/** Set widgets as one step of undo, without their callbacks: those are for changes by the user. */
function setWidgets(node, values) {
  app.canvas.emitBeforeChange()
  for (const [name, value] of Object.entries(values))
    widgetOf(node, name).value = value
  app.canvas.emitAfterChange()
  node.setDirtyCanvas(true, true)
}

/** The widgets that are watched. */
const watched = new WeakSet()

/** Nodes 2.0 tells of a typed value by the widget's own callback alone. */
function watch(nodes, tell) {
  for (const widget of nodes.flatMap(({ widgets }) => widgets ?? [])) {
    if (watched.has(widget)) continue
    watched.add(widget)
    widget.callback = chain(widget.callback, tell)
  }
}

/**
 * @param {any} node a LeMiCa node
 * @param {() => void} onGraph is told when a node changes that the plan depends on
 */
export function createView(node, onGraph) {
  const panel = createPanel({ onToggle: toggle, onReset: reset })
  const planner = createPlanner(planAsker(service.plan), (plan, error) => {
    state.plan = plan
    state.error = error
    draw()
  })
  const state = { plan: null, error: '', live: null, run: null, host: '' }

  function known() {
    const model = modelName(node, app.rootGraph)
    const kept = node.properties?.lemica
    if (kept?.model === model) return kept
    const family = familyOf(model)
    return family ? { family, model } : null
  }

  const steps = () =>
    samplerSteps(node, app.rootGraph) ??
    node.properties?.lemica?.steps ??
    DEFAULT_STEPS

  const behind = () => samplingBehind(node, app.rootGraph)

  const key = (settings) => JSON.stringify([settings, steps(), behind().sampling])

  /** The steps of the run as the server knows them: sigmas may be cut on their way to the sampler. */
  const chosenOf = (settings) => chosenSteps(settings, state.plan?.steps ?? steps())

  function draw() {
    const settings = settingsOf(node)
    const { computed, error, misfit = false } = chosenOf(settings)
    panel.show({
      ...panelOf({
        ...state,
        error: error || state.error,
        chosen: computed,
        misfit,
        editable: settings.preset === CUSTOM,
        known: known() !== null,
        idle: idleWord(node, app.rootGraph),
        several: behind().several,
        fresh: state.run?.key === key(settings)
      }),
      invalid: error !== ''
    })
    node.setDirtyCanvas(true, false)
  }

  function refresh() {
    const { sampling, nodes } = behind()
    watch(nodes, onGraph)
    planner.request(planRequest(settingsOf(node), steps(), known(), sampling))
    draw()
  }

  function toggle(step) {
    const settings = settingsOf(node)
    const { computed } = chosenOf(settings)
    const before = computed.length ? computed : (state.plan?.computed ?? [0])
    const after = toggled(before, step)
    setWidgets(node, { steps: formatSteps(after), budget: after.length })
    refresh()
  }

  function reset() {
    setWidgets(node, { steps: '' })
    refresh()
  }

  /** The user has changed a widget. */
  function changed(name) {
    // a budget is an order for a new schedule, whose steps replace those chosen by hand
    if (name === 'budget' || name === 'schedule')
      widgetOf(node, 'steps').value = ''
    if (name === 'budget' && !isLinked(node, 'budget') && !isLinked(node, 'preset'))
      widgetOf(node, 'preset').value = CUSTOM
    refresh()
  }

  return {
    panel,
    refresh,
    changed,
    close: planner.close,
    forget: planner.forget,
    /** A run begins with this schedule. */
    begin(event) {
      const { sampling, several } = behind()
      const found = knownFrom(event, modelName(node, app.rootGraph), several ? null : sampling)
      if (JSON.stringify(found) !== JSON.stringify(node.properties.lemica))
        node.properties.lemica = found
      if (found.model) rememberFamily(found.model, found.family)
      state.host = ''
      state.live = { schedule: event, step: -1, steps: event.steps }
      state.key = key(settingsOf(node))
      refresh()
    },
    /** The model was left as it is, for this reason. */
    warn(text) {
      state.host = text
      state.live = null
      draw()
    },
    /** A run is at this step. */
    step({ step, steps }) {
      const schedule = state.live?.schedule ?? null
      state.live = { schedule, step, steps }
      draw()
    },
    /** A run has ended. */
    end(report) {
      const schedule = state.live?.schedule ?? null
      state.live = null
      state.run = { report, schedule, key: state.key ?? key(settingsOf(node)) }
      if (report.origin === 'learning') {
        planner.forget()
        refresh()
      }
      draw()
      return state.run
    },
    /** A run that ended before this view was made. */
    recall(run) {
      state.run ??= run
    }
  }
}
