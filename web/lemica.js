import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import {
  CUSTOM,
  chosenSteps,
  createPlanner,
  knownFrom,
  planAsker,
  planRequest
} from './plan.js'
import { createPanel, panelOf } from './run_view.js'
import { modelName, samplerSteps } from './sampler.js'
import { createServer } from './server.js'
import { formatSteps, toggled } from './strip.js'

const NODE = 'LeMiCa'
const PLAN_EVENT = 'lemica.plan'
const STEP_EVENT = 'lemica.step'
const RUN_EVENT = 'lemica.run'
const CALIBRATION_EVENT = 'lemica.calibration'
const LIBRARY_EVENT = 'lemica.library'
const SETTINGS = ['preset', 'budget', 'schedule', 'rule', 'steps']
const DEFAULT_STEPS = 20
const LEAST_HEIGHT = 84
const FAMILIES_KEY = 'LeMiCa.Families'
const DEMO = { LeMiCaDemoModel: 'lemica-demo' }

const server = createServer((path, options) => api.fetchApi(path, options))

/** The views of the nodes that are in a graph. */
const views = new Map()

/** The last run of every node, by graph and execution id: a node that is made anew (undo) finds it again. */
const lastRuns = new Map()

/**
 * The node that an execution id names; ids inside subgraphs are paths such as "12:3".
 * @param {string} executionId
 */
function findNode(executionId) {
  let graph = app.rootGraph
  let node = null
  for (const id of executionId.split(':')) {
    node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id)) ?? null
    graph = node?.subgraph
  }
  return node
}

/** The families of the models that have run in this browser, by their name in the graph. */
function familiesSeen() {
  try {
    return { ...DEMO, ...JSON.parse(localStorage.getItem(FAMILIES_KEY)) }
  } catch {
    return DEMO
  }
}

function rememberFamily(model, family) {
  const { [model]: before, ...others } = familiesSeen()
  if (before === family) return
  const newest = Object.entries({ ...others, [model]: family }).slice(-100)
  localStorage.setItem(FAMILIES_KEY, JSON.stringify(Object.fromEntries(newest)))
}

const viewOf = (executionId) => views.get(findNode(String(executionId)))

const widgetOf = (node, name) =>
  node.widgets.find((widget) => widget.name === name)

/** @returns {import('./plan.js').Settings} */
function settingsOf(node) {
  const [preset, budget, schedule, rule, chosen] = SETTINGS.map(
    (name) => widgetOf(node, name)?.value
  )
  return { preset, budget, schedule, rule, chosen: String(chosen ?? '') }
}

/** Set widgets as one step of undo, without their callbacks: those are for changes by the user. */
function setWidgets(node, values) {
  app.canvas.emitBeforeChange()
  for (const [name, value] of Object.entries(values))
    widgetOf(node, name).value = value
  app.canvas.emitAfterChange()
  node.setDirtyCanvas(true, true)
}

/** The strip of one node: reads its widgets, asks for a plan, draws, and writes the steps chosen by hand. */
function createView(node) {
  const panel = createPanel({ onToggle: toggle, onReset: reset })
  const planner = createPlanner(planAsker(server), (plan, error) => {
    state.plan = plan
    state.error = error
    draw()
  })
  const state = { plan: null, error: '', live: null, run: null }

  function known() {
    const model = modelName(node, app.rootGraph)
    const kept = node.properties?.lemica
    if (kept?.model === model) return kept
    const family = familiesSeen()[model]
    return family ? { family, model } : null
  }

  const steps = () =>
    samplerSteps(node, app.rootGraph) ??
    node.properties?.lemica?.steps ??
    DEFAULT_STEPS

  const key = (settings) => JSON.stringify([settings, steps()])

  function draw() {
    const settings = settingsOf(node)
    const { computed, error } = chosenSteps(settings, steps())
    const fresh = state.run?.key === key(settings)
    panel.show({
      ...panelOf({
        ...state,
        error: error || state.error,
        chosen: computed,
        editable: settings.preset === CUSTOM,
        known: known() !== null,
        fresh
      }),
      invalid: error !== ''
    })
    node.setDirtyCanvas(true, false)
  }

  function refresh() {
    planner.request(planRequest(settingsOf(node), steps(), known()))
    draw()
  }

  function toggle(step) {
    const settings = settingsOf(node)
    const { computed } = chosenSteps(settings, steps())
    const before = computed.length ? computed : (state.plan?.computed ?? [0])
    const after = toggled(before, step)
    setWidgets(node, { steps: formatSteps(after), budget: after.length })
    refresh()
  }

  function reset() {
    setWidgets(node, { steps: '' })
    refresh()
  }

  function changed(name) {
    // a budget is an order for a new schedule, whose steps replace those chosen by hand
    if (name === 'budget' || name === 'schedule')
      widgetOf(node, 'steps').value = ''
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
      const found = knownFrom(event, modelName(node, app.rootGraph))
      if (JSON.stringify(found) !== JSON.stringify(node.properties.lemica))
        node.properties.lemica = found
      if (found.model) rememberFamily(found.model, found.family)
      state.live = { schedule: event, step: -1, steps: event.steps }
      state.key = key(settingsOf(node))
      refresh()
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
      draw()
      return state.run
    },
    /** A run that ended before this view was made. */
    recall(run) {
      state.run ??= run
    }
  }
}

const chain = (before, after) =>
  function (...args) {
    const result = before?.apply(this, args)
    after.apply(this, args)
    return result
  }

/** Adds the strip below a node's own widgets; it is for display only and is not saved. */
function addStrip(node) {
  const view = createView(node)
  const { element, content } = view.panel
  let height = LEAST_HEIGHT
  const widget = node.addDOMWidget('strip', 'LEMICA_STRIP', element, {
    serialize: false,
    getMinHeight: () => {
      height = Math.max(content.offsetHeight, LEAST_HEIGHT) || height
      return height
    },
    hideOnZoom: false
  })
  widget.serialize = false
  for (const name of SETTINGS) {
    const setting = widgetOf(node, name)
    if (setting)
      setting.callback = chain(setting.callback, () => view.changed(name))
  }
  node.onConfigure = chain(node.onConfigure, refreshSoon)
  node.onConnectionsChange = chain(node.onConnectionsChange, refreshSoon)
  node.onAdded = chain(node.onAdded, () => {
    views.set(node, view)
    refreshSoon()
  })
  node.onRemoved = chain(node.onRemoved, () => {
    views.delete(node)
    view.close()
  })
  views.set(node, view)
  refreshSoon()
}

let soon = false

/** Refreshes every strip once the present change of the graph is complete. */
function refreshSoon() {
  if (soon) return
  soon = true
  setTimeout(() => {
    soon = false
    for (const view of views.values()) view.refresh()
  })
}

const runKey = (executionId) => `${app.rootGraph.id}/${executionId}`

function recallRuns() {
  for (const [key, run] of lastRuns) {
    const [graph, executionId] = key.split('/')
    if (graph === app.rootGraph.id) viewOf(executionId)?.recall(run)
  }
  refreshSoon()
}

/** The library has changed: offers what there is now, and plans anew. */
async function libraryChanged() {
  const { schedules, calibrations } = await server.get('library')
  const names = [...calibrations, ...schedules].map(({ name }) => name)
  for (const [node, view] of views) {
    const { options } = widgetOf(node, 'schedule')
    options.values = [...new Set(['auto', ...names])]
    view.forget()
  }
  refreshSoon()
}

function linkStyle() {
  const link = document.createElement('link')
  link.rel = 'stylesheet'
  link.href = new URL('./lemica.css', import.meta.url).href
  document.head.append(link)
}

app.registerExtension({
  name: 'LeMiCa.Node',
  setup() {
    linkStyle()
    api.addEventListener(PLAN_EVENT, ({ detail }) =>
      viewOf(detail.node)?.begin(detail)
    )
    api.addEventListener(STEP_EVENT, ({ detail }) =>
      viewOf(detail.node)?.step(detail)
    )
    api.addEventListener(RUN_EVENT, ({ detail }) => {
      const run = viewOf(detail.node)?.end(detail)
      if (run) lastRuns.set(runKey(detail.node), run)
    })
    api.addEventListener(CALIBRATION_EVENT, ({ detail }) => {
      if (detail.state === 'done') libraryChanged()
    })
    api.addEventListener(LIBRARY_EVENT, libraryChanged)
    api.addEventListener('graphChanged', refreshSoon)
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) addStrip(node)
  },
  afterConfigureGraph: recallRuns
})
