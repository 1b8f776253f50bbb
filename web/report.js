import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { addView, chain, grow, hidePictures, linkStyle } from './calibration_node.js'
import { createCompareView } from './compare_view.js'

const NODE = 'LeMiCaReport'
const WIDTH = 420
const KEPT = ['text', 'full', 'accelerated', 'frames']

const urlOf = (frame) => api.apiURL(`/view?${new URLSearchParams(frame)}`)

/** Shows the last report on a report node; what it names is kept with the workflow, the frames are on the server. */
function addReport(node) {
  const element = document.createElement('div')
  const view = createCompareView(element, urlOf)
  addView(node, 'lemica_report', element, () => view.minHeight())
  hidePictures(node)

  function show(output) {
    view.show(output)
    grow(node)
  }

  node.onExecuted = chain(node.onExecuted, (output) => {
    if (!output?.full) return
    node.properties.lemica_report = Object.fromEntries(
      KEPT.map((key) => [key, output[key]])
    )
    show(output)
  })
  node.onConfigure = chain(node.onConfigure, () => {
    show(node.properties?.lemica_report ?? null)
  })
  grow(node, WIDTH)
}

app.registerExtension({
  name: 'LeMiCa.Report',
  setup: linkStyle,
  nodeCreated(node) {
    if (node.comfyClass === NODE) addReport(node)
  }
})
