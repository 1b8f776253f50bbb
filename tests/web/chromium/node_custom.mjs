/** Steps chosen by hand on the strip, and what keeps them: undo, copy, reload, bypass, a subgraph. */
import { drawn, focusOn, load, onPage, queue, ready, renderer, stored, until } from './page.mjs'
import {
  cell, demo, measured, next, picture, planned, run, saved, shown, state, strip, values
} from './node.mjs'

/**
 * Does something on the page with the LeMiCa node of the graph that is shown.
 * @param {(app: any, node: any) => any} work knows nothing but its arguments
 */
const change = (page, work) =>
  page.evaluate(`(${work})(app, app.canvas.graph._nodes.find(({ type }) => type === 'LeMiCa'))`)

function copy(app, node) {
  app.canvas.select(node)
  app.canvas.copyToClipboard([node])
  app.canvas.pasteFromClipboard()
}

/** What the copy has; it goes again. */
function copied(app) {
  const nodes = app.graph._nodes.filter(({ type }) => type === 'LeMiCa')
  const last = nodes[nodes.length - 1]
  const { value } = last.widgets.find(({ name }) => name === 'steps')
  const { family } = last.properties.lemica
  app.graph.remove(last)
  return { nodes: nodes.length, steps: value, family }
}

function intoSubgraph(app, node) {
  app.graph.convertToSubgraph(new Set([node]))
  app.canvas.setGraph(app.graph._nodes.find(({ subgraph }) => subgraph).subgraph)
}

/** Shows the preset on the subgraph's own node, and sets it to fast there. */
function promotePreset(app, node) {
  const outer = app.rootGraph._nodes.find(({ subgraph }) => subgraph)
  const input = outer.subgraph.addInput('preset', 'COMBO')
  input.connect(node.inputs.find(({ widget }) => widget?.name === 'preset'), node)
  const shown = outer.widgets.find(({ name }) => name === 'preset')
  shown.value = 'fast'
  shown.callback?.('fast')
}

function chooseTooManySteps(app, node) {
  const set = (name, value) => {
    node.widgets.find((one) => one.name === name).value = value
  }
  set('preset', 'custom')
  set('steps', '0, 3, 90')
  node.onConfigure()
}

const modeOf = (app, node) => node.mode

function selectAlone(app, node) {
  app.canvas.deselectAll()
  app.canvas.select(node)
  app.canvas.canvas.focus()
}

/** Puts a second LeMiCa node between the first one and the sampler. */
function addSecond(app, node) {
  const second = window.LiteGraph.createNode('LeMiCa')
  app.graph.add(second)
  second.connect(0, app.graph._nodes.find(({ type }) => type === 'KSampler'), 0)
  node.connect(0, second, 0)
}

/** Presses the key that bypasses the LeMiCa node, or the one that mutes it, or takes that back. */
async function toggle(page, key) {
  await change(page, selectAlone)
  const before = await change(page, modeOf)
  await page.keyboard.press(key)
  await until(page, 'another mode', () => change(page, modeOf), (mode) => mode !== before)
}

/** What a run of a bypassed node tells. */
async function bypassed(page) {
  await page.evaluate(() => {
    window.lemicaReports = 0
    window.app.api.addEventListener('lemica.run', () => { window.lemicaReports += 1 })
  })
  await toggle(page, 'Control+b')
  const during = await change(page, modeOf)
  const { error: failure } = await run(page)
  const shown = await state(page)
  const reports = await page.evaluate(() => window.lemicaReports)
  await toggle(page, 'Control+b')
  return { ...shown, failure, during, reports, mode: await change(page, modeOf) }
}

await onPage(async (page) => {
  page.setDefaultTimeout(60000)
  await renderer(page, false)
  const found = {}
  await load(page, demo())
  await focusOn(page, 'LeMiCa', 1.2, 200, 150)
  await planned(page, 13)
  await next(page, 'budget')
  found.budget = { ...(await planned(page, 14)), ...(await values(page)) }
  const reused = found.budget.computed.includes(5) ? 6 : 5
  await cell(page, reused).click()
  found.clicked = { step: reused, ...(await state(page)) }
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('Space')
  found.keyed = await state(page)
  await page.keyboard.press('End')
  found.end = await strip(page)
  await page.keyboard.press('Home')
  await page.keyboard.press('Enter')
  await cell(page, 0).click({ force: true }) // it says that it is disabled
  found.first = await state(page)
  found.roles = await page.evaluate(() =>
    [...document.querySelectorAll('.lemica-strip span')].map((one) => [
      one.getAttribute('role'), one.getAttribute('aria-checked'), one.getAttribute('aria-disabled')
    ])
  )
  await picture(page, 'node_custom')

  await page.mouse.click(1300, 900)
  const chosen = async (what, { computed }) => {
    await shown(page, what, (now) => String(now.computed) === String(computed))
    return state(page)
  }
  await page.keyboard.press('Control+z')
  found.undone = await chosen('undone', found.clicked)
  await page.keyboard.press('Control+y')
  found.redone = await chosen('redone', found.keyed)

  found.saved = await saved(page)
  found.run = await run(page)
  found.measured = await measured(page)
  await change(page, copy)
  await until(page, 'a copy', () => page.locator('.lemica-run').count(), (count) => count === 2)
  found.pasted = await change(page, copied)
  found.bypassed = await bypassed(page)

  await stored(page)
  await page.reload()
  await ready(page)
  found.reloaded = {
    ...(await shown(page, 'the strip after a reload', (now) => now.cells === 30)),
    ...(await values(page))
  }
  await change(page, intoSubgraph)
  await shown(page, 'a strip in the subgraph', (now) => now.cells === 30)
  await drawn(page)
  found.inSubgraph = await state(page)
  found.subgraphRun = await run(page)
  found.subgraphMeasured = await measured(page)
  await change(page, promotePreset)
  await page.mouse.click(1300, 900)
  found.promoted = await planned(page, 10)

  await load(page, demo())
  await focusOn(page, 'LeMiCa', 1.2, 200, 150)
  await change(page, chooseTooManySteps)
  found.refused = await shown(page, 'an error', (now) => now.error !== '' && now.cells === 30)
  found.ranAnyway = { failed: await queue(page), ...(await measured(page)) }
  await page.locator('.lemica-reset').click()
  found.reset = { ...(await planned(page, 13)), ...(await values(page)) }
  await toggle(page, 'Control+m')
  found.muted = await shown(page, 'a muted node', (now) => now.count === 'muted')
  await toggle(page, 'Control+m')
  found.unmuted = await planned(page, 13)
  await change(page, addSecond)
  found.covered = await shown(page, 'a node that is not in use', (now) => now.count === 'not in use')
  found.second = await until(page, 'the one in use', () => strip(page, 1), (now) => now?.cells === 30)
  return found
})
