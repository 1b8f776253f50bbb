import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import {
  addView, chain, grow, hidePictures, libraryChanged, linkStyle, service, widgetOf
} from './calibration_node.js'
import { createCalibrationView } from './calibration_view.js'
import { feederOf, slotOf } from './links.js'
import { CUSTOM, LINKED, budgetOf, optionsOf } from './solve_settings.js'

const NODE = 'LeMiCaSolve'
const SETTINGS = ['calibration', 'preset', 'budget', 'objective', 'rules', 'compute_last']
const WIDTH = 440

/** The views of the nodes that are in a graph. */
const views = new Map()

/** The node that gives the error graph. */
const source = (node) =>
  feederOf(node, slotOf(node, 'error_graph'), app.rootGraph)?.node

/** Shows on a solve node the calibration that it solves, and sets its budget. */
function addSolver(node) {
  const element = document.createElement('div')
  element.classList.add('lemica-solve-view')
  const view = createCalibrationView(element, {
    service,
    onBudget: setBudget,
    onSaved: libraryChanged,
    onResize: () => grow(node)
  })
  let wanted = ''
  let own = false

  const settings = () =>
    Object.fromEntries(SETTINGS.map((name) => [name, widgetOf(node, name)?.value]))

  function setBudget(budget) {
    own = true
    for (const [name, value] of [['preset', CUSTOM], ['budget', budget]]) {
      const widget = widgetOf(node, name)
      if (widget.value === value) continue
      widget.value = value
      widget.callback?.(value)
    }
    own = false
    node.setDirtyCanvas(true, true)
  }

  function calibrationName() {
    const linked = source(node)
    if (linked) return linked.properties?.lemica_calibration ?? ''
    const { calibration } = settings()
    return calibration === LINKED ? '' : (calibration ?? '')
  }

  function refresh(again = false) {
    if (own) return
    const name = calibrationName()
    view.setOptions(optionsOf(settings()))
    view.setHint(
      name || source(node)
        ? 'Queue it: the calibration that is connected has not been made yet.'
        : 'Choose a calibration, or connect an error graph.'
    )
    if (again || name !== wanted) {
      wanted = name
      if (name) view.open(name, (calibration) => budgetOf(settings(), calibration.presets))
      else view.close()
    } else if (view.name) {
      view.setBudget(budgetOf(settings(), view.presets()))
    }
  }

  views.set(node, refresh)
  for (const name of SETTINGS) {
    const widget = widgetOf(node, name)
    if (widget) widget.callback = chain(widget.callback, () => refresh())
  }
  node.onAdded = chain(node.onAdded, () => views.set(node, refresh))
  node.onRemoved = chain(node.onRemoved, () => {
    views.delete(node)
    view.rest()
  })
  node.onConfigure = chain(node.onConfigure, () => queueMicrotask(() => refresh()))
  node.onConnectionsChange = chain(node.onConnectionsChange, () => queueMicrotask(() => refresh()))
  node.onExecuted = chain(node.onExecuted, () => refresh())
  addView(node, 'lemica_solver', element, () => view.minHeight())
  hidePictures(node)
  refresh()
  grow(node, WIDTH)
}

/** The calibrations that there are now, in the lists of the nodes. */
async function offerCalibrations() {
  const { calibrations } = await service.library()
  const names = calibrations.map((calibration) => calibration.name)
  for (const node of views.keys()) {
    const widget = widgetOf(node, 'calibration')
    if (widget?.options) widget.options.values = [LINKED, ...names]
  }
}

app.registerExtension({
  name: 'LeMiCa.Solve',
  setup() {
    linkStyle()
    api.addEventListener('lemica.calibration', ({ detail }) => {
      if (detail.state !== 'done') return
      // The calibrate node notes the name at the same event.
      queueMicrotask(() => {
        offerCalibrations().catch(() => {})
        for (const refresh of views.values()) refresh(true)
      })
    })
    api.addEventListener('lemica.library', () => {
      offerCalibrations().catch(() => {})
    })
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) addSolver(node)
  },
  afterConfigureGraph() {
    for (const refresh of views.values()) refresh()
  }
})
