/** The LeMiCa node on the classic canvas: from the search to the measured speed-up. */
import { focusOn, load, onPage, renderer, theme } from './page.mjs'
import {
  demo, drag, measured, next, picture, planned, run, runningPicture, shown, strip, values
} from './node.mjs'

/** Double clicks on the canvas until that opens the search: a page that draws between the clicks takes them for two. */
async function doubleClick(page, box) {
  for (let left = 5; ; left -= 1) {
    await page.mouse.dblclick(900, 800)
    try {
      return await box.waitFor({ timeout: 10000 })
    } catch (error) {
      if (error.name !== 'TimeoutError' || !left) throw error
    }
  }
}

/** Adds the node as a user does: a double click on the canvas, its name, Enter, and a click where it is to be. */
async function search(page) {
  const box = page.getByRole('combobox').or(page.getByPlaceholder(/search/i)).first()
  await doubleClick(page, box)
  await box.fill('LeMiCa')
  await page.getByRole('option').or(page.getByTestId('result-item')).first().waitFor()
  await page.keyboard.press('Enter')
  await box.waitFor({ state: 'hidden' })
  await page.mouse.click(900, 800) // where the node is to be that hangs on the pointer
  return shown(page, 'a node from the search', (now) => now.cells > 0)
}

/** Pulls a link with the mouse, from the output of a node to the input of another one. */
async function connect(page, from, output, to, input) {
  const [[x, y], [left, top]] = await page.evaluate(([from, output, to, input]) => {
    const { app } = window
    const nodeOf = (type) => app.graph._nodes.find((one) => one.type === type)
    const { scale, offset } = app.canvas.ds
    const canvas = app.canvas.canvas.getBoundingClientRect()
    const place = ([x, y]) => [(x + offset[0]) * scale + canvas.left, (y + offset[1]) * scale + canvas.top]
    return [place(nodeOf(from).getOutputPos(output)), place(nodeOf(to).getInputPos(input))]
  }, [from, output, to, input])
  await page.mouse.move(x, y)
  await page.mouse.down()
  await page.mouse.move((x + left) / 2, (y + top) / 2, { steps: 5 })
  await page.mouse.move(left, top, { steps: 5 })
  await page.mouse.up()
  await page.waitForFunction(
    ([to, input]) => window.app.graph._nodes.find((one) => one.type === to).isInputConnected(input), [to, input]
  )
}

/** The milliseconds from each choice of a preset to the frame that shows its strip. */
const choices = (page) =>
  page.evaluate(async () => {
    const node = window.app.graph._nodes.find(({ type }) => type === 'LeMiCa')
    const preset = node.widgets.find(({ name }) => name === 'preset')
    const label = () => document.querySelector('.lemica-strip').getAttribute('aria-label')
    const frame = () => new Promise(requestAnimationFrame)
    const times = []
    for (const value of ['slow', 'ultra', 'medium', 'fast', 'slow', 'fast', 'ultra', 'medium']) {
      const before = label()
      const begin = performance.now()
      preset.value = value
      preset.callback(value)
      while (label() === before && performance.now() - begin < 10000) await frame()
      times.push(performance.now() - begin)
      await new Promise((resolve) => setTimeout(resolve, 150))
    }
    return times
  })

await onPage(async (page) => {
  page.setDefaultTimeout(60000)
  await renderer(page, false)
  await load(page, demo({ withNode: false }))
  await focusOn(page, 'ModelSamplingSD3', 0.8, 100, 300)
  const found = { searched: await search(page) }
  await connect(page, 'ModelSamplingSD3', 0, 'LeMiCa', 0)
  await connect(page, 'LeMiCa', 0, 'KSampler', 0)
  found.connected = await shown(page, 'the steps of the sampler', (now) => now.cells === 30)
  await focusOn(page, 'LeMiCa', 1.2, 200, 150)
  found.medium = await planned(page, 13)
  await next(page, 'preset')
  found.fast = await planned(page, 10)
  await picture(page, 'node_before')

  found.run = await run(page)
  found.measured = await measured(page)
  await picture(page, 'node_after')
  await runningPicture(page, 'node_running')
  await next(page, 'preset')
  found.ultra = await planned(page, 8)
  found.times = await choices(page)

  const before = await values(page)
  await drag(page, 'budget', 8)
  const { budget } = await values(page)
  found.dragged = { before: before.budget, ...(await planned(page, budget)), ...(await values(page)) }
  await theme(page, 'light')
  await picture(page, 'node_before_light')
  await theme(page, 'dark')
  await focusOn(page, 'KSampler', 1.2, 600, 150)
  await next(page, 'steps', 'KSampler')
  found.longer = await shown(page, 'more steps', (now) => now.cells === 31)
  found.strips = await page.locator('.lemica-run').count()

  await load(page, demo({ steps: 120 }))
  found.many = await shown(page, 'many steps', (now) => now.cells === 120)
  await picture(page, 'node_120_steps')
  await page.evaluate(() => {
    const { app } = window
    const { id } = app.graph._nodes.find(({ type }) => type === 'LeMiCa')
    app.api.dispatchCustomEvent('lemica.host', { node: String(id), text: 'a point is missing' })
  })
  found.left = await shown(page, 'why the model is left as it is', (now) => now.error !== '')
  return found
})
