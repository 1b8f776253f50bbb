/** ComfyUI's page in Chromium, and what the scripts do with it. */
import { createRequire } from 'node:module'

const { chromium } = createRequire(import.meta.url)(process.env.LEMICA_PLAYWRIGHT)

/** What the test gave, of which `url` is the server's. */
export const given = JSON.parse(process.argv[2])

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync'
]
const PATIENCE = 240000

const OURS = /lemica/i

/** Of every user before the page opens: no greeting lies above the graph, and no panel beside it. */
const SETTINGS = { 'Comfy.TutorialCompleted': true, 'Comfy.RightSidePanel.IsOpen': false }

/**
 * Runs a script on a fresh page, and prints what it returns with `problems`: errors, and warnings that name our files or
 * that our files are the cause of.
 * @param {(page: import('playwright-core').Page) => Promise<object>} script
 * @param {{ width?: number, height?: number, scale?: number }} [size]
 */
export async function onPage(script, { width = 1600, height = 1000, scale = 1 } = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.LEMICA_BROWSER, args: FLAGS
  })
  const problems = []
  try {
    const context = await browser.newContext({
      viewport: { width, height }, deviceScaleFactor: scale
    })
    const page = await context.newPage()
    page.setDefaultTimeout(PATIENCE)
    page.on('console', (message) => {
      const text = `${message.text()} (${message.location().url})`
      if (OURS.test(text) && ['error', 'warning'].includes(message.type()))
        problems.push(`${message.type()}: ${text.slice(0, 400)}`)
    })
    page.on('pageerror', (error) =>
      problems.push(`page error: ${String(error.stack).slice(0, 600)}`)
    )
    const devtools = await context.newCDPSession(page)
    devtools.on('Runtime.consoleAPICalled', ({ type, args, stackTrace }) => {
      const text = args.map(({ value, description }) => value ?? description).join(' ')
      const frame = stackTrace?.callFrames.find(({ url }) => OURS.test(url))
      if (frame && !OURS.test(text) && ['error', 'warning'].includes(type))
        problems.push(`${type} from ${frame.url}:${frame.lineNumber}: ${text.slice(0, 400)}`)
    })
    await devtools.send('Runtime.enable')
    await open(page)
    const found = await script(page)
    console.log(JSON.stringify({ ...found, problems }))
  } finally {
    await browser.close()
  }
}

/** Opens the page and waits until our nodes can be made. */
export async function open(page) {
  await page.request.post(`${given.url}/api/settings`, { data: SETTINGS })
  await page.goto(given.url, { timeout: PATIENCE })
  await ready(page)
}

export async function ready(page) {
  await page.waitForFunction(
    () => {
      const { app, LiteGraph } = window
      const manager = app?.extensionManager
      return app?.graph && LiteGraph?.registered_node_types?.LeMiCa && !manager.spinner && manager.workflow.activeWorkflow
    },
    null, { timeout: PATIENCE }
  )
  await page.evaluate(() => {
    window.LiteGraph.alwaysRepeatWarnings = true // else the first one who does what is deprecated is the only one told
  })
  await drawn(page)
}

/** Waits until the views have stood still for some frames and no colour fades: what is to be drawn is drawn. */
export async function drawn(page) {
  await page.evaluate(async () => {
    const VIEWS = '.lemica-run, .lemica-calibrate-view, .lemica-solve-view, .lemica-report, .lemica-library, [data-node-id]'
    const places = () =>
      JSON.stringify(
        [...document.querySelectorAll(VIEWS)].map((one) => {
          const { x, y, width, height } = one.getBoundingClientRect()
          return [x, y, width, height, one.textContent.length]
        })
      )
    const fades = () =>
      document.getAnimations().some((one) => one instanceof CSSTransition && one.playState === 'running')
    let before = places()
    for (let still = 0; still < 6; ) {
      await new Promise(requestAnimationFrame)
      const now = places()
      still = now === before && !fades() ? still + 1 : 0
      before = now
    }
  })
}

/** Shows a workflow alone. */
export async function load(page, workflow) {
  await page.evaluate((data) => window.app.loadGraphData(data), workflow)
  await drawn(page)
  await page.keyboard.press('Escape')
}

/** @param {boolean} vue Nodes 2.0, else the classic canvas */
export async function renderer(page, vue) {
  await page.evaluate(
    (on) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on), vue
  )
  await page.waitForFunction((on) => window.LiteGraph.vueNodesMode === on, vue)
  await drawn(page)
}

/** @param {'dark' | 'light'} theme */
export async function theme(page, theme) {
  await page.evaluate(
    (id) => window.app.extensionManager.setting.set('Comfy.ColorPalette', id), theme
  )
  await page.waitForFunction((dark) => {
    const { classList, style } = document.documentElement
    return (classList.contains('dark-theme') || style.colorScheme === 'dark') === dark
  }, theme === 'dark')
  await drawn(page)
}

/** Brings the node of a type into view, at a zoom. */
export async function focusOn(page, type, zoom = 1, left = 40, top = 80) {
  await page.evaluate(
    ([type, zoom, left, top]) => {
      const { app } = window
      const node = app.graph._nodes.find((one) => one.type === type)
      app.canvas.ds.scale = zoom
      app.canvas.ds.offset[0] = -node.pos[0] + left / zoom
      app.canvas.ds.offset[1] = -node.pos[1] + top / zoom
      app.canvas.setDirty(true, true)
    },
    [type, zoom, left, top]
  )
  await drawn(page)
}

/**
 * Waits until the page has stored the graph as it is now, so that a reload finds it. It does so some time after it noticed a
 * change, which is told to it here: looks of its own come with the mouse, and not while it holds a change for unfinished.
 */
export async function stored(page) {
  const look = () =>
    page.evaluate(() => {
      const { api, rootGraph, extensionManager } = window.app
      const essence = ({ nodes }) =>
        nodes.map(({ id, type, mode, properties, widgets_values }) =>
          JSON.stringify([id, type, mode, properties, widgets_values])
        )
      const graph = JSON.parse(JSON.stringify(rootGraph.serialize()))
      const now = essence(graph)
      const drafts = Object.entries(localStorage)
        .filter(([key]) => key.startsWith('Comfy.Workflow.Draft.'))
        .map(([, draft]) => essence(JSON.parse(JSON.parse(draft).data)))
      if (drafts.some((draft) => draft.join() === now.join())) return { stored: true }
      if (window.lemicaTold !== now.join()) {
        window.lemicaTold = now.join()
        api.dispatchCustomEvent('graphChanged', graph)
      }
      const { path, changeTracker } = extensionManager.workflow.activeWorkflow
      const unlike = drafts.map((draft) => now.filter((node) => !draft.includes(node)).map((node) => node.slice(0, 200)))
      return { stored: false, path, unfinished: changeTracker.changeCount, unlike }
    })
  await until(page, 'a stored graph', look, ({ stored }) => stored)
}

/**
 * Waits until something on the page is as it is wanted, and returns it; looks once a frame.
 * @template T
 * @param {import('playwright-core').Page} page
 * @param {string} what
 * @param {() => Promise<T>} look
 * @param {(now: T) => boolean} wanted
 * @returns {Promise<T>}
 */
export async function until(page, what, look, wanted, patience = 60000) {
  const end = Date.now() + patience
  for (;;) {
    const now = await look()
    if (wanted(now)) return now
    if (Date.now() > end) throw new Error(`${what}: ${JSON.stringify(now)}`)
    await page.evaluate(() => new Promise(requestAnimationFrame))
  }
}

/** Queues what is shown, and waits for its end; the error it ended with, or null. */
export async function queue(page, wait = true) {
  await page.evaluate(() => {
    window.lemicaRun = { ended: false, error: null }
    const { api } = window.app
    const once = (event, error) =>
      api.addEventListener(
        event,
        ({ detail }) => {
          window.lemicaRun = { ended: true, error: error ? detail : null }
        },
        { once: true }
      )
    once('execution_success', false)
    once('execution_error', true)
    once('execution_interrupted', true)
    return window.app.queuePrompt(0, 1)
  })
  if (!wait) return null
  return ended(page)
}

export async function ended(page) {
  await page.waitForFunction(() => window.lemicaRun.ended, null, { timeout: PATIENCE })
  return page.evaluate(() => window.lemicaRun.error?.exception_message ?? null)
}

/** A picture of a node with what it shows, of moderate size. */
export async function shoot(page, path, clip) {
  await page.screenshot({ path, ...(clip ? { clip } : {}) })
}

/** Where a node of a type is on the screen, with a margin. */
export async function boxOf(page, type, margin = 10) {
  return page.evaluate(
    ([type, margin]) => {
      const { app } = window
      const node = app.graph._nodes.find((one) => one.type === type)
      const { scale, offset } = app.canvas.ds
      const title = 30
      const [left, top] = [
        (node.pos[0] + offset[0]) * scale, (node.pos[1] - title + offset[1]) * scale
      ]
      const canvas = app.canvas.canvas.getBoundingClientRect()
      const box = {
        x: Math.max(left + canvas.left - margin, 0),
        y: Math.max(top + canvas.top - margin, 0),
        width: node.size[0] * scale + 2 * margin,
        height: (node.size[1] + title) * scale + 2 * margin
      }
      return {
        ...box,
        width: Math.min(box.width, window.innerWidth - box.x),
        height: Math.min(box.height, window.innerHeight - box.y)
      }
    },
    [type, margin]
  )
}
