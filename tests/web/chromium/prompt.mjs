/** A workflow on the page: a node's widgets, and what the page would queue of it once they have other values. */
import { readFileSync } from 'node:fs'
import { given, load, onPage } from './page.mjs'

const workflow = JSON.parse(readFileSync(given.file, 'utf8'))

await onPage(async (page) => {
  await load(page, workflow)
  return page.evaluate(async (values) => {
    const { app, document } = window
    const { widgets } = app.graph._nodes.find(({ type }) => type === values.type)
    for (const widget of widgets) {
      if (widget.name in values.set) widget.value = values.set[widget.name]
    }
    const { _s: stores } = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia
    return {
      widgets: widgets.map(({ name }) => name),
      blueprints: stores.get('subgraph').subgraphBlueprints.map((one) => one.display_name),
      prompt: (await app.graphToPrompt()).output,
      dialogs: [...document.querySelectorAll('[role="dialog"]')].map((dialog) => dialog.innerText)
    }
  }, given.values)
})
