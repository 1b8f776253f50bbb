/** Steps chosen by hand on the strip, and what keeps them: undo, copy, reload, bypass, a subgraph. */
import { focusOn, load, onPage, queue, ready, renderer } from './page.mjs'
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

async function toggleBypass(page) {
  await change(page, (app, node) => app.canvas.select(node))
  await page.locator('canvas').first().focus()
  await page.keyboard.press('Control+b')
  await page.waitForTimeout(300)
}

/** What a run of a bypassed node tells. */
async function bypassed(page) {
  await page.evaluate(() => {
    window.lemicaReports = 0
    window.app.api.addEventListener('lemica.run', () => { window.lemicaReports += 1 })
  })
  await toggleBypass(page)
  const during = await change(page, modeOf)
  const { error: failure } = await run(page)
  const shown = await state(page)
  const reports = await page.evaluate(() => window.lemicaReports)
  await toggleBypass(page)
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
  await page.keyboard.press('Control+z')
  await page.waitForTimeout(1500)
  found.undone = await state(page)
  await page.keyboard.press('Control+y')
  await page.waitForTimeout(1500)
  found.redone = await state(page)

  found.saved = await saved(page)
  found.run = await run(page)
  found.measured = await measured(page)
  await change(page, copy)
  await page.waitForTimeout(1000)
  found.pasted = await change(page, copied)
  found.bypassed = await bypassed(page)

  await page.waitForTimeout(3000)
  await page.reload()
  await ready(page)
  found.reloaded = {
    ...(await shown(page, 'the strip after a reload', (now) => now.cells === 30)),
    ...(await values(page))
  }
  await change(page, intoSubgraph)
  await page.waitForTimeout(1500)
  found.inSubgraph = await state(page)
  found.subgraphRun = await run(page)
  found.subgraphMeasured = await measured(page)
  await change(page, promotePreset)
  await page.mouse.click(1300, 900)
  found.promoted = await planned(page, 10)

  await load(page, demo())
  await focusOn(page, 'LeMiCa', 1.2, 200, 150)
  await change(page, chooseTooManySteps)
  found.refused = await shown(page, 'an error', (now) => now.error !== '')
  found.ranAnyway = { failed: await queue(page), ...(await measured(page)) }
  await page.locator('.lemica-reset').click()
  found.reset = { ...(await planned(page, 13)), ...(await values(page)) }
  return found
})
