/** What the scripts of the LeMiCa node share: the workflow, its strip, its widgets, a run. */
import { readFileSync } from 'node:fs'
import { boxOf, drawn, focusOn, given, queue, shoot, until } from './page.mjs'

const SAMPLED = [2, 3, 14, 15, 16, 17]
const LEMICA = 14
const PATIENCE = 120000

/** The part of the demo that samples with the medium preset, with or without its LeMiCa node. */
export function demo({ withNode = true, steps = 30 } = {}) {
  const all = JSON.parse(readFileSync(given.workflow, 'utf8'))
  const kept = SAMPLED.filter((id) => withNode || id !== LEMICA)
  const nodes = all.nodes.filter(({ id }) => kept.includes(id))
  const links = all.links.filter(
    ([, from, , to]) => kept.includes(from) && kept.includes(to)
  )
  nodes.find(({ type }) => type === 'KSampler').widgets_values[2] = steps
  const left = new Set(links.map(([id]) => id))
  for (const { inputs = [], outputs = [] } of nodes) {
    for (const input of inputs) if (!left.has(input.link)) input.link = null
    for (const output of outputs)
      output.links = output.links.filter((id) => left.has(id))
  }
  return { ...all, nodes, links, groups: [] }
}

/** What a strip shows; of the first LeMiCa node unless told. */
export const strip = (page, index = 0) =>
  page.evaluate((index) => {
    const element = document.querySelectorAll('.lemica-run')[index]
    if (!element) return null
    const text = (name) => element.querySelector(name)?.textContent ?? ''
    const cells = [...element.querySelectorAll('.lemica-strip span')]
    const styles = cells.map((cell) => getComputedStyle(cell))
    return {
      cells: cells.length,
      computed: cells.flatMap((cell, step) =>
        cell.classList.contains('lemica-computed') ? [step] : []
      ),
      filled: styles.flatMap(({ backgroundColor, borderColor }, step) =>
        backgroundColor === borderColor ? [step] : []
      ),
      colours: [...new Set(styles.map(({ borderColor }) => borderColor))].length,
      legend: [...element.querySelectorAll('.lemica-legend span')].map(
        ({ textContent }) => textContent
      ),
      label: element.querySelector('.lemica-strip').getAttribute('aria-label'),
      focused: cells.indexOf(document.activeElement),
      count: text('.lemica-count'),
      speed: text('.lemica-speed'),
      name: text('.lemica-name'),
      origin: text('.lemica-origin'),
      notes: text('.lemica-notes'),
      error: text('.lemica-error')
    }
  }, index)

/** Waits until a strip shows this, and returns it. */
export const shown = (page, what, wanted) =>
  until(page, what, () => strip(page), (now) => now !== null && wanted(now), PATIENCE)

export const planned = (page, budget) =>
  shown(page, `a plan of ${budget}`, (now) => now.computed.length === budget && /predicted/.test(now.speed))

export const measured = (page) =>
  shown(page, 'a measured run', (now) => /measured/.test(now.speed))

/** The widgets of the first LeMiCa node of the graph that is shown. */
export const values = (page) =>
  page.evaluate(() => {
    const node = window.app.canvas.graph._nodes.find(({ type }) => type === 'LeMiCa')
    return Object.fromEntries(node.widgets.map(({ name, value }) => [name, value]))
  })

/** What is saved of the LeMiCa node, and what of it the server is sent. */
export const saved = (page) =>
  page.evaluate(async () => {
    const { app } = window
    const node = app.canvas.graph._nodes.find(({ type }) => type === 'LeMiCa')
    const { output } = await app.graphToPrompt()
    const { inputs } = Object.values(output).find((one) => one.class_type === 'LeMiCa')
    return { values: node.serialize().widgets_values, sent: Object.keys(inputs) }
  })

export const state = async (page) => ({ ...(await strip(page)), ...(await values(page)) })

/** Where a widget of the classic canvas is on the screen: its arrow to the next value. */
const arrowOf = (page, name, type) =>
  page.evaluate(([name, type]) => {
    const { app } = window
    const node = app.canvas.graph._nodes.find((one) => one.type === type)
    const widget = node.widgets.find((one) => one.name === name)
    const { scale, offset } = app.canvas.ds
    const canvas = app.canvas.canvas.getBoundingClientRect()
    return [
      (node.pos[0] + node.size[0] - 25 + offset[0]) * scale + canvas.left,
      (node.pos[1] + widget.last_y + 10 + offset[1]) * scale + canvas.top
    ]
  }, [name, type])

/** Presses the arrow at the end of a widget of the classic canvas: the next value. */
export async function next(page, name, type = 'LeMiCa') {
  await page.mouse.click(...(await arrowOf(page, name, type)))
}

/** Drags a number of the classic canvas to the right. */
export async function drag(page, name, pixels) {
  const [x, y] = await arrowOf(page, name, 'LeMiCa')
  await page.mouse.move(x - 120, y)
  await page.mouse.down()
  await page.mouse.move(x - 120 + pixels, y, { steps: 10 })
  await page.mouse.up()
}

/** Chooses from the list of a combo in Nodes 2.0. */
export async function pick(page, name, value) {
  await page.getByRole('combobox', { name }).first().click()
  await page.getByRole('option', { name: value, exact: true }).first().click()
}

export const cell = (page, step) => page.locator('.lemica-strip span').nth(step)

/** Gives the sampler another seed: the server answers what it has run before from its memory. */
const reseed = (page) =>
  page.evaluate(() => {
    const sampler = window.app.rootGraph._nodes.find(({ type }) => type === 'KSampler')
    sampler.widgets.find(({ name }) => name === 'seed').value = Math.floor(Math.random() * 1e9)
  })

/** Runs what is shown: its error, the steps that were marked on the way, and what was counted. */
export async function run(page) {
  await reseed(page)
  await page.evaluate(() => {
    window.lemicaMarked = new Set()
    window.lemicaCounted = new Set()
    const note = () => {
      const cells = [...document.querySelectorAll('.lemica-strip span')]
      const step = cells.findIndex((one) => one.classList.contains('lemica-current'))
      if (step < 0) return
      window.lemicaMarked.add(step)
      window.lemicaCounted.add(document.querySelector('.lemica-count').textContent)
    }
    window.lemicaObserver?.disconnect()
    window.lemicaObserver = new MutationObserver(note)
    window.lemicaObserver.observe(document.body, {
      subtree: true, attributes: true, attributeFilter: ['class']
    })
  })
  const error = await queue(page)
  const [marked, counted] = await page.evaluate(() => [
    [...window.lemicaMarked], [...window.lemicaCounted]
  ])
  return { error, marked, counted }
}

/** A picture of the node while it runs. */
export async function runningPicture(page, name) {
  await focus(page)
  await reseed(page)
  await queue(page, false)
  await page.waitForFunction(() => {
    const cells = [...document.querySelectorAll('.lemica-strip span')]
    return cells.findIndex((one) => one.classList.contains('lemica-current')) > 4
  }, null, { polling: 50 })
  await shoot(page, `${given.pictures}/${name}.png`, await boxOf(page, 'LeMiCa'))
  await page.waitForFunction(() => window.lemicaRun.ended)
}

const focus = (page, zoom = 1.5) => focusOn(page, 'LeMiCa', zoom, 200, 150)

export async function picture(page, name) {
  await focus(page)
  await page.mouse.move(5, 500)
  await drawn(page)
  await shoot(page, `${given.pictures}/${name}.png`, await boxOf(page, 'LeMiCa'))
}
