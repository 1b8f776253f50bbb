import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import {
  addView, chain, findNode, grow, linkSheet, service, widgetOf
} from './calibration_node.js'
import { SETTINGS, createView } from './node_view.js'

const NODE = 'LeMiCa'
const PLAN_EVENT = 'lemica.plan'
const STEP_EVENT = 'lemica.step'
const RUN_EVENT = 'lemica.run'
const HOST_EVENT = 'lemica.host'
const CALIBRATION_EVENT = 'lemica.calibration'
const LIBRARY_EVENT = 'lemica.library'
const LEAST_HEIGHT = 84
const MARGIN = 8 // the canvas takes it from an element's height on both sides

/** The views of the nodes that are in a graph. */
const views = new Map()

/** The last run of every node, by graph and execution id: a node that is made anew (undo) finds it again. */
const lastRuns = new Map()

const viewOf = (executionId) => views.get(findNode(String(executionId)))

/** Adds the strip below a node's own widgets. */
function addStrip(node) {
  const view = createView(node, refreshSoon)
  const { element, content } = view.panel
  let height = LEAST_HEIGHT
  // an element that is out of sight has no height: the last one holds
  const minHeight = () => {
    if (content.offsetHeight) height = content.offsetHeight
    return Math.max(height, LEAST_HEIGHT) + 2 * MARGIN
  }
  addView(node, 'strip', element, minHeight, { margin: MARGIN })
  new ResizeObserver(() => {
    if (content.offsetHeight > element.clientHeight) grow(node)
  }).observe(content)
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
async function offerLibrary() {
  const library = await service.library().catch(() => null)
  if (library === null) return // the server is gone; what was offered stays
  const { schedules, calibrations } = library
  const names = [...calibrations, ...schedules].map(({ name }) => name)
  for (const [node, view] of views) {
    const { options } = widgetOf(node, 'schedule')
    options.values = [...new Set(['auto', ...names])]
    view.forget()
  }
  refreshSoon()
}

// Known before the page opens its socket: it complains of a message that nobody listens to, and a calibration tells all.
for (const event of [PLAN_EVENT, STEP_EVENT, RUN_EVENT, CALIBRATION_EVENT, LIBRARY_EVENT])
  api.addEventListener(event, () => {})

app.registerExtension({
  name: 'LeMiCa.Node',
  setup() {
    linkSheet('lemica.css')
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
    api.addEventListener(HOST_EVENT, ({ detail }) =>
      viewOf(detail.node)?.warn(detail.text)
    )
    api.addEventListener(CALIBRATION_EVENT, ({ detail }) => {
      if (detail.state === 'done') offerLibrary()
    })
    api.addEventListener(LIBRARY_EVENT, offerLibrary)
    api.addEventListener('graphChanged', refreshSoon)
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) addStrip(node)
  },
  afterConfigureGraph: recallRuns
})
