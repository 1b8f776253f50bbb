/** The LeMiCa node on the page: its strip before, during and after a run, and steps chosen by hand. */
import { readFileSync } from 'node:fs'
import {
  boxOf,
  focusOn,
  given,
  load,
  onPage,
  queue,
  ready,
  renderer,
  shoot,
  theme
} from './page.mjs'

const SAMPLED = [2, 3, 14, 15, 16, 17]

/** The part of the demo that samples with the medium preset. */
function demo() {
  const all = JSON.parse(readFileSync(given.workflow, 'utf8'))
  const nodes = all.nodes.filter(({ id }) => SAMPLED.includes(id))
  const links = all.links.filter(
    ([, from, , to]) => SAMPLED.includes(from) && SAMPLED.includes(to)
  )
  const left = new Set(links.map(([id]) => id))
  for (const { outputs = [] } of nodes)
    for (const output of outputs)
      output.links = output.links.filter((id) => left.has(id))
  return { ...all, nodes, links, groups: [] }
}

/** What a strip shows; of the first LeMiCa node unless told. */
const strip = (page, index = 0) =>
  page.evaluate((index) => {
    const element = document.querySelectorAll('.lemica-run')[index]
    const text = (name) => element.querySelector(name)?.textContent ?? ''
    const cells = [...element.querySelectorAll('.lemica-strip span')]
    return {
      steps: cells.length,
      computed: cells.flatMap((cell, step) =>
        cell.classList.contains('lemica-computed') ? [step] : []
      ),
      count: text('.lemica-count'),
      speed: text('.lemica-speed'),
      name: text('.lemica-name'),
      origin: text('.lemica-origin'),
      notes: text('.lemica-notes'),
      error: text('.lemica-error')
    }
  }, index)

/** Waits until a strip shows this, and returns it. */
async function shown(page, what, wanted) {
  for (let tries = 0; tries < 600; tries++) {
    const now = (await page.$('.lemica-run')) && (await strip(page))
    if (now && wanted(now)) return now
    await page.waitForTimeout(100)
  }
  throw new Error(`${what}: ${JSON.stringify(await strip(page))}`)
}

const planned = (page, budget) =>
  shown(page, `a plan of ${budget}`, (now) => now.computed.length === budget && /predicted/.test(now.speed))

const values = (page) =>
  page.evaluate(() => {
    const { app } = window
    const node = app.canvas.graph._nodes.find(({ type }) => type === 'LeMiCa')
    return Object.fromEntries(node.widgets.map(({ name, value }) => [name, value]))
  })

/** Presses the arrow at the end of a widget of the classic canvas: the next value. */
async function next(page, name) {
  const [x, y] = await page.evaluate((name) => {
    const { app } = window
    const node = app.graph._nodes.find(({ type }) => type === 'LeMiCa')
    const widget = node.widgets.find((one) => one.name === name)
    const { scale, offset } = app.canvas.ds
    const canvas = app.canvas.canvas.getBoundingClientRect()
    return [
      (node.pos[0] + node.size[0] - 25 + offset[0]) * scale + canvas.left,
      (node.pos[1] + widget.last_y + 10 + offset[1]) * scale + canvas.top
    ]
  }, name)
  await page.mouse.click(x, y)
}

/** Chooses from the list of a combo in Nodes 2.0. */
async function pick(page, name, value) {
  await page.getByRole('combobox', { name }).first().click()
  await page.getByRole('option', { name: value, exact: true }).first().click()
}

const cell = (page, step) => page.locator('.lemica-strip span').nth(step)

/** Queues with another seed, as the cache would have the samples, and notes which steps were marked on the way. */
async function run(page) {
  await page.evaluate(() => {
    const sampler = window.app.rootGraph._nodes.find(({ type }) => type === 'KSampler')
    sampler.widgets.find(({ name }) => name === 'seed').value = Math.floor(Math.random() * 1e9)
    window.lemicaMarked = []
    const note = () => {
      const cells = [...document.querySelectorAll('.lemica-strip span')]
      const step = cells.findIndex((one) => one.classList.contains('lemica-current'))
      if (step >= 0) window.lemicaMarked.push(step)
    }
    new MutationObserver(note).observe(document.body, {
      subtree: true, attributes: true, attributeFilter: ['class']
    })
  })
  const error = await queue(page)
  const marked = await page.evaluate(() => [...new Set(window.lemicaMarked)])
  return { error, marked }
}

async function picture(page, name, zoom = 1.5) {
  await focusOn(page, 'LeMiCa', zoom, 200, 150)
  await page.mouse.move(5, 500)
  await page.waitForTimeout(600)
  await shoot(page, `${given.pictures}/${name}.png`, await boxOf(page, 'LeMiCa'))
}

/** Adds the node as a user does: a double click on the canvas, its name, Enter. */
async function search(page) {
  await page.evaluate(() => window.app.graph.clear())
  const box = page.getByRole('combobox').or(page.getByPlaceholder(/search/i)).first()
  for (let tries = 0; tries < 5; tries++) {
    await page.mouse.dblclick(700, 500)
    if (await box.waitFor({ timeout: 8000 }).then(() => true, () => false)) break
    await page.keyboard.press('Escape') // what a first visit is greeted with
  }
  await box.fill('LeMiCa')
  await page.waitForTimeout(1500)
  await page.keyboard.press('Enter')
  const found = await shown(page, 'a node from the search', (now) => now.steps > 0)
  await page.keyboard.press('Escape')
  return found
}

await onPage(async (page) => {
  page.setDefaultTimeout(60000)
  const found = { searched: await search(page) }

  await load(page, demo())
  await focusOn(page, 'LeMiCa', 1.2, 200, 150)
  found.medium = await planned(page, 13)
  let begin = Date.now()
  await next(page, 'preset')
  found.fast = await planned(page, 10)
  found.milliseconds = Date.now() - begin
  await picture(page, 'node_before')

  found.run = await run(page)
  found.measured = await shown(page, 'a measured run', (now) => /measured/.test(now.speed))
  await picture(page, 'node_after')
  await next(page, 'preset')
  found.ultra = await planned(page, 8)

  await next(page, 'preset')
  const custom = await values(page)
  await next(page, 'budget')
  found.budget = await planned(page, custom.budget + 1)
  const reused = found.budget.computed.includes(5) ? 6 : 5
  await cell(page, reused).click()
  found.clicked = { step: reused, ...(await strip(page)), ...(await values(page)) }
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('Space')
  found.keyed = { ...(await strip(page)), ...(await values(page)) }
  await cell(page, 0).click({ force: true }) // it says that it is disabled
  found.first = await strip(page)
  await picture(page, 'node_custom')

  await page.mouse.click(1300, 900)
  await page.keyboard.press('Control+z')
  await page.waitForTimeout(1500)
  found.undone = { ...(await strip(page)), ...(await values(page)) }
  await page.keyboard.press('Control+y')
  await page.waitForTimeout(1500)
  found.redone = await values(page)

  found.customRun = await run(page)
  found.customMeasured = await shown(page, 'a measured run', (now) => /measured/.test(now.speed))

  await page.evaluate(() => {
    const { app } = window
    const node = app.graph._nodes.find(({ type }) => type === 'LeMiCa')
    app.canvas.select(node)
    app.canvas.copyToClipboard([node])
    app.canvas.pasteFromClipboard()
  })
  await page.waitForTimeout(1000)
  found.pasted = await page.evaluate(() => {
    const { app } = window
    const nodes = app.graph._nodes.filter(({ type }) => type === 'LeMiCa')
    const copy = nodes[nodes.length - 1]
    const steps = copy.widgets.find(({ name }) => name === 'steps').value
    const known = copy.properties.lemica.family
    app.graph.remove(copy)
    return { nodes: nodes.length, steps, known }
  })

  await renderer(page, true)
  await picture(page, 'node_custom_vue')
  found.vue = await strip(page)
  await pick(page, 'preset', 'medium')
  found.vueMedium = await planned(page, 13)
  await pick(page, 'preset', 'custom')
  await cell(page, 3).click()
  found.vueClicked = { ...(await strip(page)), ...(await values(page)) }
  found.vueRun = await run(page)
  found.vueMeasured = await shown(page, 'a measured run', (now) => /measured/.test(now.speed))
  await theme(page, 'light')
  await picture(page, 'node_after_vue_light')
  await renderer(page, false)
  await picture(page, 'node_after_light')
  await theme(page, 'dark')

  const before = { ...(await values(page)) }
  await page.waitForTimeout(3000)
  await page.reload()
  await ready(page)
  await shown(page, 'the strip after a reload', (now) => now.steps === 30)
  found.reloaded = { before, after: await values(page), ...(await strip(page)) }

  await page.evaluate(() => {
    const { app } = window
    const node = app.graph._nodes.find(({ type }) => type === 'LeMiCa')
    node.mode = 4
    app.graph.convertToSubgraph(new Set([node]))
    const outer = app.graph._nodes.find(({ subgraph }) => subgraph)
    const inner = outer.subgraph.nodes[0]
    inner.mode = 0
    app.canvas.setGraph(outer.subgraph)
  })
  await page.waitForTimeout(1500)
  found.inSubgraph = { ...(await strip(page)), ...(await values(page)) }
  found.subgraphRun = await run(page)
  found.subgraphMeasured = await shown(page, 'a measured run', (now) => /measured/.test(now.speed))
  return found
})
