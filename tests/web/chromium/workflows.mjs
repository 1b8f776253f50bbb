/** Every example workflow on the page, one after the other: what is shown, and what the page finds amiss. */
import { readFileSync } from 'node:fs'
import { given, load, onPage, ready } from './page.mjs'

const workflows = Object.entries(given.files).map(([name, file]) => [
  name,
  JSON.parse(readFileSync(file, 'utf8'))
])
const models = workflows.flatMap(([, { nodes }]) =>
  nodes.flatMap(({ properties }) => properties.models ?? [])
)

/** Has the page believe that the model files are there, so that it only complains of anything else. */
async function provideModels(page) {
  const names = models.map(({ name }) => name)
  await page.route('**/object_info', async (route) => {
    const response = await route.fetch()
    const info = await response.json()
    const combos = ['UNETLoader', 'CLIPLoader', 'DualCLIPLoader', 'VAELoader']
      .flatMap((type) => Object.entries(info[type].input.required))
      .filter(([input]) => /^(unet|clip|vae)_name/.test(input))
    for (const [, [choices]] of combos) choices.push(...names)
    await route.fulfill({ response, json: info })
  })
  await page.reload()
  await ready(page)
}

const shown = (page) =>
  page.evaluate(() => {
    const nodes = window.app.graph._nodes
    return {
      missing: nodes
        .filter(({ type }) => !window.LiteGraph.registered_node_types[type])
        .map(({ type }) => type),
      dialogs: [...document.querySelectorAll('[role="dialog"]')].map(
        (dialog) => dialog.innerText
      ),
      errors: /\d+ errors? found|Missing [A-Z]\w+/.exec(document.body.innerText),
      tooSmall: nodes
        .filter((node) => node.computeSize()[1] > node.size[1] + 1)
        .map(({ title }) => title),
      saved: window.app.graph.serialize()
    }
  })

await onPage(async (page) => {
  await load(page, workflows.find(([name]) => name === given.download)[1])
  await page.getByText('View details').click()
  const offered = page.getByText('Download', { exact: true })
  await offered.first().waitFor()
  const downloads = await offered.count()

  await provideModels(page)
  const found = {}
  for (const [name, workflow] of workflows) {
    await load(page, workflow)
    found[name] = await shown(page)
  }
  return { downloads, found }
})
