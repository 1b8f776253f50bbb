/** What the node says before a run, and what the run then was, however the graph settles the sigmas; and its colours. */
import { focusOn, given, load, onPage, renderer, theme, until } from './page.mjs'
import { demo, measured, run, shown } from './node.mjs'

/** Sets the widgets of a node, or its mode. */
const set = (page, type, { mode = 0, ...values }) =>
  page.evaluate(
    ([type, mode, values]) => {
      const node = window.app.graph._nodes.find((one) => one.type === type)
      node.mode = mode
      for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find((one) => one.name === name)
        widget.value = value
        widget.callback?.(value)
      }
    },
    [type, mode, values]
  )

/** What a strip says of the schedule. */
const words = ({ name, origin, computed }) => ({ name, origin, computed })

const colours = (page) =>
  page.evaluate(() => {
    const rules = [...document.querySelectorAll('.lemica-legend span')]
    return Object.fromEntries(
      rules.map((one) => [one.textContent, getComputedStyle(one.querySelector('i')).backgroundColor])
    )
  })

await onPage(async (page) => {
  page.setDefaultTimeout(60000)
  await renderer(page, false)
  let last = null
  page.on('response', async (response) => {
    if (!response.url().endsWith('/lemica/plan')) return
    last = { sampling: response.request().postDataJSON().sampling, answer: await response.json() }
  })
  const found = {}
  for (const [name, { changes, sampling }] of Object.entries(given.runs)) {
    await load(page, demo())
    await focusOn(page, 'LeMiCa', 1.2, 200, 150)
    for (const [type, values] of Object.entries(changes)) await set(page, type, values)
    await page.mouse.move(5, 900)
    await page.mouse.up() // when the page looks for changes
    const { answer } = await until(
      page, `the plan of ${name}`, async () => last, (now) => JSON.stringify(now?.sampling) === JSON.stringify(sampling)
    )
    const before = await shown(page, `${name}, before`, (now) => /predicted/.test(now.speed) && now.name === answer.name)
    const { error } = await run(page)
    found[name] = { before: words(before), after: words(await measured(page)), notes: before.notes, error }
  }
  await load(page, demo())
  await shown(page, 'a strip', (now) => now.cells === 30)
  found.dark = await colours(page)
  await theme(page, 'light')
  found.light = await colours(page)
  await theme(page, 'dark')
  return found
})
