import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { drawRun } from './run_view.js'

const NODE = 'LeMiCa'
const RUN_EVENT = 'lemica.run'

/**
 * The node that an execution id names; ids inside subgraphs are paths such as "12:3".
 * @param {string} executionId
 */
function findNode(executionId) {
  let graph = app.rootGraph ?? app.graph
  let node = null
  for (const id of executionId.split(':')) {
    node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id)) ?? null
    graph = node?.subgraph
  }
  return node
}

/** Shows the last run below a node's own widgets; the widget is for display only and is not saved. */
function addRunWidget(node) {
  const element = document.createElement('div')
  element.className = 'lemica-run'
  const widget = node.addDOMWidget('run', 'LEMICA_RUN', element, {
    serialize: false,
    getMinHeight: () => 72,
    hideOnZoom: false
  })
  widget.serialize = false
  node.showLeMiCaRun = (report) => drawRun(element, report)
}

function linkStyle() {
  const link = document.createElement('link')
  link.rel = 'stylesheet'
  link.href = new URL('./lemica.css', import.meta.url).href
  document.head.append(link)
}

app.registerExtension({
  name: 'LeMiCa.Run',
  setup() {
    linkStyle()
    api.addEventListener(RUN_EVENT, ({ detail }) => {
      findNode(String(detail.node))?.showLeMiCaRun?.(detail)
    })
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) addRunWidget(node)
  }
})
