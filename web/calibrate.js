import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import {
  addView, chain, findNode, grow, hidePictures, libraryChanged, linkStyle, matchesId, service
} from './calibration_node.js'
import { costOrder, describeCost, effortOf } from './calibration_order.js'
import { IDLE, isActive, reduce } from './calibration_state.js'
import { createCalibrationView } from './calibration_view.js'
import { familyOf } from './families_seen.js'
import { newest } from './newest.js'
import { modelName } from './sampler.js'

const NODES = ['LeMiCaCalibrate', 'LeMiCaCalibrateCustom']
const EVENT = 'lemica.calibration'
const WIDTH = 420
const HINT = 'Queue it: the error graph fills in here, and what every budget costs.'

/** The views of the nodes that are in a graph. */
const views = new Map()

/** Shows on a calibrate node what it measures; the name of its calibration is kept with the workflow. */
function addCalibration(node) {
  const element = document.createElement('div')
  element.classList.add('lemica-calibrate-view')
  let state = IDLE
  const view = createCalibrationView(element, {
    service,
    onSaved: libraryChanged,
    onResize: () => grow(node)
  })
  view.setHint(HINT)
  const own = [...node.widgets]
  addView(node, 'lemica_calibration', element, () => view.minHeight())
  hidePictures(node, () => isActive(state))

  const medium = (calibration) => calibration.presets.medium

  const costs = newest(
    service.cost,
    (cost) => view.setHint(`${describeCost(cost)} ${HINT}`, describeCost(cost)),
    (refusal) => view.setHint(`${refusal.message} ${HINT}`, refusal.message)
  )

  function estimate() {
    const values = Object.fromEntries(node.widgets.map(({ name, value }) => [name, value]))
    const connected = node.inputs.filter(
      (input) => input.name.startsWith('positive') && input.link != null
    )
    const family = view.family || familyOf(modelName(node, app.rootGraph))
    const order = costOrder(values, connected.length, family)
    if (order) costs.request(order)
    else view.setHint(HINT)
  }

  async function open(name) {
    if (await view.open(name, medium)) estimate()
  }

  async function recall() {
    const name = node.properties?.lemica_calibration
    const { running } = await service.jobs()
    const job = running.find((one) => matchesId(node, one.node) && (!name || one.name === name))
    if (job) tell(job)
    else if (name && !isActive(state)) open(name)
  }

  function tell(event) {
    state = reduce(state, event)
    view.showProgress(state)
    node.properties.lemica_calibration = state.name
    if (state.phase === 'done') open(state.name)
  }

  const soon = () => queueMicrotask(() => node.graph && estimate())
  for (const widget of own) widget.callback = chain(widget.callback, soon)
  node.onConnectionsChange = chain(node.onConnectionsChange, soon)

  views.set(node, { tell, recall })
  node.onAdded = chain(node.onAdded, () => views.set(node, { tell, recall }))
  node.onRemoved = chain(node.onRemoved, () => {
    views.delete(node)
    view.rest()
  })
  node.onConfigure = chain(node.onConfigure, () => {
    const effort = own.find(({ name }) => name === 'mode')
    if (effort) effort.value = effortOf(effort.value)
    recall().catch(() => {})
    soon()
  })
  grow(node, WIDTH)
}

app.registerExtension({
  name: 'LeMiCa.Calibrate',
  setup() {
    linkStyle()
    api.addEventListener(EVENT, ({ detail }) => {
      views.get(findNode(String(detail.node)))?.tell(detail)
    })
  },
  nodeCreated(node) {
    if (NODES.includes(node.comfyClass)) addCalibration(node)
  }
})
