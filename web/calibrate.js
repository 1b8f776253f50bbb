import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import {
  addView, chain, findNode, grow, hidePictures, libraryChanged, linkStyle, matchesId, service
} from './calibration_node.js'
import { costOrder, describeCost, describeKept, effortOf, keptOrder } from './calibration_order.js'
import { IDLE, isActive, reduce } from './calibration_state.js'
import { createCalibrationView } from './calibration_view.js'
import { familyOf } from './families_seen.js'
import { isLinked } from './links.js'
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
    async ({ order, kept }) => ({
      cost: order && (await service.cost(order)),
      kept: kept && (await service.kept(kept).catch(() => null))
    }),
    ({ cost, kept }, { named }) => {
      const stands = kept ? describeKept(kept, cost?.steps ?? 0, named) : ''
      const words = stands || (cost ? describeCost(cost) : '')
      view.setHint(stands || `${words} ${HINT}`.trim(), words)
      if (kept?.finished && !isActive(state) && view.name !== kept.name) open(kept.name)
    },
    (refusal) => view.setHint(`${refusal.message} ${HINT}`, refusal.message)
  )

  function estimate() {
    const values = Object.fromEntries(node.widgets.map(({ name, value }) => [name, value]))
    const connected = node.inputs.filter(
      ({ name }) => /^(positive|guider)/.test(name) && isLinked(node, name)
    )
    const family = view.family || familyOf(modelName(node, app.rootGraph))
    const order = costOrder(values, connected.length, family)
    const kept = keptOrder(values, connected.length, node.properties?.lemica_calibration)
    if (order || kept) costs.request({ order, kept, named: Boolean(values.name?.trim()) })
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

  /** A change of the workflow like any other: the page keeps it over a reload. */
  function remember(name) {
    if (node.properties.lemica_calibration === name) return
    app.canvas.emitBeforeChange()
    node.properties.lemica_calibration = name
    app.canvas.emitAfterChange()
  }

  function tell(event) {
    state = reduce(state, event)
    view.showProgress(state)
    remember(state.name)
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
