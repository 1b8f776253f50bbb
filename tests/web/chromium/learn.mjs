/** Three pictures that are learned from, the fast one after them, and what the sidebar tab lists of it. */
import { focusOn, load, onPage, renderer, until } from './page.mjs'
import { demo, measured, picture, run, strip } from './node.mjs'

const TAB = '.lemica-library'

const setLearn = (page, value) =>
  page.evaluate((value) => {
    const node = window.app.graph._nodes.find(({ type }) => type === 'LeMiCa')
    const widget = node.widgets.find(({ name }) => name === 'learn')
    widget.value = value
    widget.callback(value)
  }, value)

const listed = (page) =>
  page.evaluate(() => {
    const tab = document.querySelector('.lemica-library')
    const texts = (selector) =>
      [...tab.querySelectorAll(selector)].filter((one) => one.getClientRects().length).map((one) => one.textContent)
    return {
      entries: texts('.lemica-entry-name'), facts: texts('.lemica-details dt'),
      badges: texts('.lemica-details .lemica-badge'), actions: texts('.lemica-details .lemica-actions button')
    }
  })

await onPage(async (page) => {
  page.setDefaultTimeout(60000)
  await renderer(page, false)
  await load(page, demo({ steps: 12 }))
  await focusOn(page, 'LeMiCa', 1.2, 200, 150)
  await setLearn(page, 'every run')
  const found = { runs: [] }
  found.before = await until(page, 'a plan of a full run', () => strip(page), ({ origin }) => origin === 'learning')
  for (let made = 0; made < 3; made += 1) {
    const { error } = await run(page)
    found.runs.push({ error, ...(await strip(page)) })
  }
  await picture(page, 'node_learning')
  await setLearn(page, 'on')
  found.planned = await until(page, 'a learned plan', () => strip(page), ({ origin }) => origin === 'learned')
  found.fast = { ...(await run(page)), ...(await measured(page)) }
  await picture(page, 'node_learned')

  await page.getByRole('button', { name: 'LeMiCa: schedules and calibrations' }).click()
  await page.getByRole('combobox', { name: 'Show only' }).selectOption('learned')
  found.listed = await until(page, 'three records', () => listed(page), ({ entries }) => entries.length === 3)
  await page.locator(`${TAB} .lemica-entry`).first().click()
  found.details = await until(page, 'the details of a record', () => listed(page), ({ facts }) => facts.includes('sampler'))
  const details = page.locator(`${TAB} .lemica-details`)
  await details.getByRole('button', { name: 'Leave out' }).click()
  await details.getByRole('button', { name: 'Count again' }).waitFor()
  found.leftOut = await until(page, 'its badge', () => listed(page), ({ badges }) => badges.includes('left out'))
  await details.getByRole('button', { name: 'Count again' }).click()
  await details.getByRole('button', { name: 'Leave out' }).waitFor()
  await details.getByRole('button', { name: 'Rename…' }).click()
  await details.getByRole('textbox', { name: 'New name' }).fill('the owl')
  await details.getByRole('button', { name: 'Rename' }).click()
  found.renamed = await until(page, 'its name', () => listed(page), ({ entries }) => entries.includes('the owl'))
  await details.getByRole('button', { name: 'Delete…' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
  found.left = await until(page, 'two records', () => listed(page), ({ entries }) => entries.length === 2)
  return found
})
