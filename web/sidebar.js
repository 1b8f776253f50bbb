import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { libraryChanged, service, widgetOf } from './calibration_node.js'
import { createLibraryView } from './library_view.js'
import { createServer } from './server.js'

const NODE = 'LeMiCa'
const KEPT = 'LeMiCa.Library'
const LIBRARY_EVENT = 'lemica.library'
const CALIBRATION_EVENT = 'lemica.calibration'

const server = createServer((path, options) => api.fetchApi(path, options))

/** What this browser remembers of the tab. */
function readKept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {}
  } catch {
    return {}
  }
}

const MEASURED = 'What was measured for it here stays on the disk, among the unfinished calibrations.'

async function confirmDelete({ kind, name }) {
  const what = kind === 'job' ? 'unfinished calibration' : kind
  const answer = await app.extensionManager.dialog.confirm({
    title: `Delete ${what}`,
    message:
      kind === 'record'
        ? `Forget what was learned from the ${name}? The picture itself stays.`
        : `Delete the ${what} ${name}? ` +
          (kind === 'job' ? 'All that was measured for it is lost.' : 'This cannot be undone.'),
    type: 'delete',
    ...(kind === 'calibration' ? { hint: MEASURED } : {})
  })
  return answer === true
}

/** The server names the file, and the browser writes it as it comes. */
function download({ kind, name }) {
  const link = document.createElement('a')
  link.href = api.apiURL(`/lemica/export?${new URLSearchParams({ kind, name })}`)
  link.download = ''
  document.body.append(link)
  link.click()
  link.remove()
}

/** Choose a schedule or a calibration on the selected LeMiCa nodes, as one step of undo. */
function use({ name }) {
  const nodes = [...app.canvas.selectedItems].filter(({ comfyClass }) => comfyClass === NODE)
  if (!nodes.length) return 'Select a LeMiCa node in the graph first.'
  app.canvas.emitBeforeChange()
  for (const node of nodes) {
    const widget = widgetOf(node, 'schedule')
    // a node that was made after the library changed does not offer it yet
    if (!widget.options.values.includes(name)) widget.options.values = [...widget.options.values, name]
    widget.value = name
    widget.callback?.(name)
  }
  app.canvas.emitAfterChange()
  app.canvas.setDirty(true, true)
  return `${nodes.length === 1 ? 'The selected node uses' : `${nodes.length} nodes use`} ${name}.`
}

function linkStyle() {
  const link = document.createElement('link')
  link.rel = 'stylesheet'
  link.href = new URL('./lemica_library.css', import.meta.url).href
  document.head.append(link)
}

function createTab() {
  const view = createLibraryView({
    server, service, kept: readKept(), confirmDelete, download, use,
    keep: (kept) => localStorage.setItem(KEPT, JSON.stringify(kept)),
    changed: libraryChanged
  })
  const refresh = () => {
    if (view.element.isConnected) view.refresh()
  }
  api.addEventListener(LIBRARY_EVENT, refresh)
  api.addEventListener('reconnected', refresh)
  api.addEventListener('lemica.run', ({ detail }) => {
    if (detail.origin === 'learning') refresh()
  })
  api.addEventListener(CALIBRATION_EVENT, ({ detail }) => {
    if (view.element.isConnected) view.tell(detail)
  })
  return view
}

app.registerExtension({
  name: 'LeMiCa.Library',
  setup() {
    linkStyle()
    let view
    app.extensionManager.registerSidebarTab({
      id: 'lemica',
      icon: 'pi pi-bolt',
      title: 'LeMiCa',
      tooltip: 'LeMiCa: schedules and calibrations',
      type: 'custom',
      // called again whenever the page draws the panel
      render(host) {
        view ??= createTab()
        host.classList.add('lemica-library-host')
        if (host.contains(view.element)) return
        host.replaceChildren(view.element)
        view.refresh()
      },
      destroy: () => view?.rest()
    })
  }
})
