/** The LeMiCa node in Nodes 2.0. */
import { load, onPage, renderer, theme } from './page.mjs'
import {
  cell, demo, measured, pick, picture, planned, run, shown, state, strip, values
} from './node.mjs'

await onPage(async (page) => {
  page.setDefaultTimeout(60000)
  const found = {}
  await load(page, demo())
  await renderer(page, true)
  await picture(page, 'node_before_vue')
  found.medium = await planned(page, 13)
  await pick(page, 'preset', 'fast')
  found.fast = await planned(page, 10)
  const steps = page.locator('[data-node-id="15"]').getByRole('spinbutton').nth(1)
  for (const count of ['24', '30']) {
    await steps.fill(count)
    await steps.press('Enter')
    found[`typed${count}`] = await shown(page, `${count} steps`, (now) => now.cells === Number(count))
  }
  await planned(page, 10)
  await pick(page, 'preset', 'custom')
  const { budget } = await values(page)
  await planned(page, budget)
  await page.locator('[data-node-id="14"]').getByRole('button', { name: 'Increment' }).click()
  found.budget = { before: budget, ...(await planned(page, budget + 1)), ...(await values(page)) }
  const step = found.budget.computed.includes(3) ? 4 : 3
  await cell(page, step).click()
  found.clicked = { step, ...(await state(page)) }
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('Space')
  found.keyed = await state(page)
  await picture(page, 'node_custom_vue')
  found.run = await run(page)
  found.measured = await measured(page)
  await theme(page, 'light')
  await picture(page, 'node_after_vue_light')
  await renderer(page, false)
  await picture(page, 'node_after_light')
  found.classic = await strip(page)
  await theme(page, 'dark')
  return found
})
