/** The blueprint on the page: how it is listed, and what the page would queue of it, with values changed from outside. */
import { readFileSync } from 'node:fs'
import { given, load, onPage } from './page.mjs'

const blueprint = JSON.parse(readFileSync(given.file, 'utf8'))

await onPage(async (page) => {
  await load(page, blueprint)
  const widgets = await page.evaluate(() => {
    const [node] = window.app.graph._nodes
    for (const widget of node.widgets) {
      if (widget.name === 'preset') widget.value = 'fast'
      if (widget.name === 'steps') widget.value = 12
    }
    return node.widgets.map(({ name }) => name)
  })
  const found = await page.evaluate(async () => {
    const { _s: stores } = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia
    return {
      listed: stores.get('subgraph').subgraphBlueprints.map((one) => one.display_name),
      prompt: (await window.app.graphToPrompt()).output,
      dialogs: [...document.querySelectorAll('[role="dialog"]')].map(
        (dialog) => dialog.innerText
      )
    }
  })
  return { widgets, ...found }
})
