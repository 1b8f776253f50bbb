/** Steps chosen by hand on the strip, and what keeps them: undo, copy, reload, bypass, a subgraph. */
import { focusOn, load, onPage, queue, ready, renderer } from './page.mjs'
import {
  cell, demo, measured, next, picture, planned, run, saved, shown, state, strip, values
} from './node.mjs'

const change = (page, work) =>
  page.evaluate((work) => {
    const { app } = window
    const node = app.canvas.graph._nodes.find(({ type }) => type === 'LeMiCa')
    return new Function('app', 'node', work)(app, node)
  }, work)

const COPY = `
  app.canvas.select(node)
  app.canvas.copyToClipboard([node])
  app.canvas.pasteFromClipboard()`

const COPIED = `
  const nodes = app.graph._nodes.filter(({ type }) => type === 'LeMiCa')
  const copy = nodes[nodes.length - 1]
  const { value } = copy.widgets.find(({ name }) => name === 'steps')
  const { family } = copy.properties.lemica
  app.graph.remove(copy)
  return { nodes: nodes.length, steps: value, family }`

const ENTER = `
  app.graph.convertToSubgraph(new Set([node]))
  app.canvas.setGraph(app.graph._nodes.find(({ subgraph }) => subgraph).subgraph)`

async function toggleBypass(page) {
  await change(page, 'app.canvas.select(node)')
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
  const { error } = await run(page)
  const told = { error, ...(await state(page)), 
    during: await change(page, 'return node.mode'),
    reports: await page.evaluate(() => window.lemicaReports) }
  await toggleBypass(page)
  return { ...told, mode: await change(page, 'return node.mode') }
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
  await change(page, COPY)
  await page.waitForTimeout(1000)
  found.pasted = await change(page, COPIED)
  found.bypassed = await bypassed(page)

  await page.waitForTimeout(3000)
  await page.reload()
  await ready(page)
  found.reloaded = {
    ...(await shown(page, 'the strip after a reload', (now) => now.cells === 30)),
    ...(await values(page))
  }
  await change(page, ENTER)
  await page.waitForTimeout(1500)
  found.inSubgraph = await state(page)
  found.subgraphRun = await run(page)
  found.subgraphMeasured = await measured(page)

  await load(page, demo())
  await focusOn(page, 'LeMiCa', 1.2, 200, 150)
  await change(page, `node.widgets.find(({ name }) => name === 'preset').value = 'custom'
    node.widgets.find(({ name }) => name === 'steps').value = '0, 3, 90'
    app.canvas.emitAfterChange()
    node.onConfigure()`)
  found.refused = await shown(page, 'an error', (now) => now.error !== '')
  found.refusedRun = await queue(page)
  await page.locator('.lemica-reset').click()
  found.reset = { ...(await planned(page, 13)), ...(await values(page)) }
  return found
})
