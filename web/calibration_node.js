/** What the entries share of ComfyUI: its server, its nodes, and the place of a view below their widgets. */
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { createServer } from './server.js'

const server = createServer((path, options) => api.fetchApi(path, options))

/** The routes that the views ask. */
export const service = {
  /** @param {object} body */
  plan: (body) => server.post('plan', body),
  /** @param {string} name */
  calibration: (name) => server.get(`calibration?name=${encodeURIComponent(name)}`),
  library: () => server.get('library'),
  jobs: () => server.get('jobs'),
  /** @param {object} body */
  cost: (body) => server.post('cost', body),
  /** @param {object} body */
  solve: (body) => server.post('solve', body),
  /** @param {object} body */
  save: (body) => server.post('save', body),
  /** @param {object} body */
  undo: (body) => server.post('undo', body)
}

/** Tell the other views that there is another schedule. */
export const libraryChanged = () =>
  api.dispatchEvent(new CustomEvent('lemica.library'))

/** @param {string} file one of the stylesheets beside this file */
export function linkSheet(file) {
  const href = new URL(`./${file}`, import.meta.url).href
  if ([...document.styleSheets].some((sheet) => sheet.href === href)) return
  if (document.querySelector(`link[href="${href}"]`)) return
  const link = document.createElement('link')
  link.rel = 'stylesheet'
  link.href = href
  document.head.append(link)
}

export const linkStyle = () => linkSheet('lemica_calibration.css')

/**
 * The node that an execution id names; ids inside subgraphs are paths such as "12:3".
 * @param {string} executionId
 */
export function findNode(executionId) {
  let graph = app.rootGraph
  let node = null
  for (const id of executionId.split(':')) {
    node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id)) ?? null
    graph = node?.subgraph
  }
  return node
}

/**
 * The execution id of a node, as far as it can be known: a subgraph may be used more than once.
 * @param {any} node
 */
export const matchesId = (node, executionId) => findNode(String(executionId)) === node

/**
 * @param {((...args: any[]) => any) | undefined} before
 * @param {(...args: any[]) => void} after
 */
export const chain = (before, after) =>
  function (...args) {
    const result = before?.apply(this, args)
    after.apply(this, args)
    return result
  }

export const widgetOf = (node, name) =>
  node.widgets?.find((widget) => widget.name === name)

/**
 * Puts an element below a node's own widgets; it is for display only and is not saved.
 * @param {any} node
 * @param {string} name
 * @param {HTMLElement} element
 * @param {() => number} minHeight
 * @param {object} [options] of the widget
 */
export function addView(node, name, element, minHeight, options = {}) {
  const widget = node.addDOMWidget(name, name.toUpperCase(), element, {
    serialize: false,
    getMinHeight: minHeight,
    hideOnZoom: false,
    ...options
  })
  widget.serialize = false
  return widget
}

/**
 * Makes a node at least as large as its widgets need; it does not shrink what the user made larger.
 * @param {any} node
 * @param {number} [width]
 */
export function grow(node, width = 0) {
  requestAnimationFrame(() => {
    if (!node.graph) return
    const [least, high] = node.computeSize()
    const [wide, tall] = node.size
    const wanted = [Math.max(wide, least, width), Math.max(tall, high)]
    if (wanted[0] !== wide || wanted[1] !== tall) node.setSize(wanted)
    node.setDirtyCanvas?.(true, true)
  })
}

/**
 * The view stands in place of the pictures that a node puts out; `while_` tells when they are to be seen all the same.
 * @param {any} node
 * @param {() => boolean} [shown]
 */
export function hidePictures(node, shown = () => false) {
  node.hideOutputImages = true
  const draw = node.onDrawBackground
  node.onDrawBackground = function (...args) {
    if (shown()) return draw?.apply(this, args)
  }
}
