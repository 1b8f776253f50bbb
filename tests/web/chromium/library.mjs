/** The sidebar tab: what it lists, and everything that can be done with it, by mouse and by keys. */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { drawn, given, load, onPage, open, renderer, shoot, theme, until } from './page.mjs'

const TAB = '.lemica-library'
const DETAILS = `${TAB} .lemica-details`

const tabButton = (page) => page.getByRole('button', { name: 'LeMiCa: schedules and calibrations' })

async function openTab(page) {
  await tabButton(page).click()
  await page.waitForSelector(`${TAB} .lemica-family`)
}

/** What the tab shows. */
const view = (page) =>
  page.evaluate(() => {
    const tab = document.querySelector('.lemica-library')
    const details = tab.querySelector('.lemica-details')
    const texts = (selector, within = tab) =>
      [...within.querySelectorAll(selector)]
        .filter((one) => one.getClientRects().length)
        .map((one) => one.textContent)
    const [title] = texts('h3', details)
    return {
      families: texts('.lemica-family-title'),
      counts: texts('.lemica-family-count'),
      open: [...tab.querySelectorAll('.lemica-family[aria-expanded="true"] .lemica-family-title')]
        .map((one) => one.textContent),
      entries: texts('.lemica-entry-name'),
      badges: texts('.lemica-entry .lemica-badge'),
      title: title ?? null,
      kind: texts('.lemica-kind', details).join(),
      marks: texts('.lemica-badge', details),
      actions: texts('.lemica-actions button', details),
      facts: texts('dt', details).map((term, index) => [term, texts('dd', details)[index]]),
      cells: details.querySelectorAll('.lemica-details-body .lemica-strip span').length,
      computed: details.querySelectorAll('.lemica-details-body .lemica-computed').length,
      curve: texts('.lemica-curve', details).length,
      budget: texts('.lemica-budget span', details).join(),
      said: texts('.lemica-messages .lemica-said:not(.lemica-failed) p'),
      failed: texts('.lemica-failed p'),
      refusal: texts('.lemica-refusal', details).join(),
      words: texts('.lemica-details-body p', details),
      problems: texts('.lemica-problems summary'),
      empty: texts('.lemica-empty').join(),
      focus: document.activeElement?.textContent ?? ''
    }
  })

/** Waits until the tab shows this, and returns it. */
const shown = (page, what, wanted) => until(page, what, () => view(page), wanted, 30000)

const family = (page, title) =>
  page.locator(`${TAB} .lemica-family`, { hasText: title }).first()

const entry = (page, name) => page.locator(`${TAB} [data-key="${name}"]`)

const action = (page, words) =>
  page.locator(`${DETAILS} .lemica-actions button`, { hasText: words }).first()

/** Opens a family unless it is open. */
async function unfold(page, title) {
  const head = family(page, title)
  if ((await head.getAttribute('aria-expanded')) === 'false') await head.click()
}

async function details(page, key, name = key.slice(key.indexOf(':') + 1)) {
  await entry(page, key).click()
  return shown(page, `details of ${key}`, (now) => now.title === name)
}

const search = (page, text) => page.locator(`${TAB} input[type=search]`).fill(text)

async function exported(page) {
  const [download] = await Promise.all([page.waitForEvent('download'), action(page, 'Export').click()])
  const content = fs.readFileSync(await download.path())
  return {
    file: download.suggestedFilename(), sha256: createHash('sha256').update(content).digest('hex')
  }
}

/** Drags files over the tab, and drops them. */
async function drop(page, files) {
  const sent = files.map((file) => ({
    name: path.basename(file), content: fs.readFileSync(file).toString('base64')
  }))
  const transfer = await page.evaluateHandle((sent) => {
    const transfer = new DataTransfer()
    for (const { name, content } of sent) {
      const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))
      transfer.items.add(new File([bytes], name))
    }
    return transfer
  }, sent)
  const hint = () => page.locator('.lemica-drop-hint').isVisible()
  const before = await hint()
  await page.dispatchEvent(`${TAB} .lemica-tree`, 'dragover', { dataTransfer: transfer })
  const above = await hint()
  await page.dispatchEvent(`${TAB} .lemica-tree`, 'drop', { dataTransfer: transfer })
  return { hints: [before, above, await hint()] }
}

const dialog = (page) => page.getByRole('dialog')

async function picture(page, name) {
  await page.mouse.move(900, 400)
  await drawn(page)
  const box = await page.locator(TAB).boundingBox()
  await shoot(page, `${given.shots}/${name}.png`, box)
}

await onPage(async (page) => {
  page.setDefaultTimeout(30000)
  await openTab(page)
  const found = { first: await shown(page, 'families', (now) => now.families.length > 5) }
  found.closedByDefault = found.first.entries.length === 0

  await search(page, 'wan published')
  found.searched = await view(page)
  await search(page, 'nothing like it')
  found.nothing = await view(page)
  await search(page, '')
  await page.locator(`${TAB} select`).first().selectOption('yours')
  found.yours = await view(page)
  await page.locator(`${TAB} select`).first().selectOption('unfinished')
  found.unfinished = await view(page)
  await page.locator(`${TAB} select`).first().selectOption('all')

  await unfold(page, 'Wan 2.1 T2V 14B')
  found.packaged = await details(page, `schedule:${given.packaged}`)
  await page.keyboard.press('Delete')
  await drawn(page)
  found.noDialog = await dialog(page).count()
  found.exportedPackaged = await exported(page)

  await unfold(page, 'LeMiCa demo')
  found.mine = await details(page, 'schedule:mine')
  found.exported = await exported(page)
  await entry(page, 'schedule:mine').focus()
  await page.keyboard.press('F2')
  await page.keyboard.type('night')
  await page.keyboard.press('Enter')
  found.taken = await shown(page, 'a taken name', (now) => now.refusal !== '')
  await page.keyboard.press('ControlOrMeta+a')
  await page.keyboard.type('mine anew')
  await page.keyboard.press('Enter')
  found.renamed = await shown(page, 'a new name', (now) => now.title === 'mine anew')

  await entry(page, 'schedule:mine anew').focus()
  await page.keyboard.press('Delete')
  await dialog(page).waitFor()
  found.dialog = await dialog(page).textContent()
  await dialog(page).getByRole('button', { name: 'Cancel' }).click()
  await dialog(page).waitFor({ state: 'detached' })
  found.cancelled = await view(page)
  await action(page, 'Delete').click()
  await dialog(page).getByRole('button', { name: 'Delete' }).click()
  found.deleted = await shown(page, 'one less', (now) => !now.entries.includes('mine anew'))

  await unfold(page, 'FLUX.1-dev')
  found.alone = await details(page, 'calibration:other')
  found.aloneMerge = await action(page, 'Merge').isDisabled()
  await details(page, 'calibration:night')
  found.night = await shown(page, 'a curve', (now) => now.curve === 1 && now.budget !== '')
  found.exportedCalibration = await exported(page)
  await action(page, 'Merge').click()
  await page.keyboard.press('ControlOrMeta+a')
  await page.keyboard.type('night and day')
  await page.keyboard.press('Enter')
  found.merged = await shown(page, 'a merged one', (now) => now.title === 'night and day')
  await shown(page, 'its curve', (now) => now.budget !== '')
  await page.locator(`${DETAILS} button[data-preset=fast]`).click()
  found.preset = await shown(page, 'a saved preset', (now) => now.entries.includes('night and day/fast'))

  await page.setInputFiles(`${TAB} input[type=file]`, given.files)
  found.imported = await shown(page, 'imports', (now) => now.failed.length > 0)
  await shown(page, 'the last import', (now) => now.title === given.last)
  const nodes = () => page.evaluate(() => window.app.graph._nodes.length)
  const before = await nodes()
  found.drop = await drop(page, given.dropped)
  found.dropped = await shown(page, 'a drop', (now) => now.failed.length === 1 && now.said.length === 1)
  found.nodes = [before, await nodes()]

  await unfold(page, 'Wan 2.2 14B')
  await entry(page, 'estimate:wan2.2-14b/fast').click()
  found.estimate = await shown(page, 'an estimate', (now) => now.cells === 30 && now.facts.length > 2)
  await page.locator(`${DETAILS} input[type=number]`).fill('20')
  found.estimated20 = await shown(page, 'another estimate', (now) => now.cells === 20)
  await action(page, 'Save').click()
  await page.keyboard.press('Enter')
  found.kept = await shown(page, 'a saved estimate', (now) => now.title === 'wan2.2-14b/fast')

  await load(page, given.node)
  await page.evaluate(() => window.app.canvas.deselectAll())
  await action(page, 'Use').click()
  found.unused = await view(page)
  await page.evaluate(() => {
    const { app } = window
    app.canvas.select(app.graph._nodes.find((one) => one.type === 'LeMiCa'))
  })
  await action(page, 'Use').click()
  found.used = await view(page)
  found.widget = await page.evaluate(() => {
    const node = window.app.graph._nodes.find((one) => one.type === 'LeMiCa')
    const widget = node.widgets.find((one) => one.name === 'schedule')
    return { value: widget.value, offered: widget.options.values.includes(widget.value) }
  })

  await unfold(page, 'Unfinished')
  const [job, twin] = given.jobs.map((folder) => `job:${folder}`)
  await details(page, twin, 'Half Run')
  await action(page, 'Delete').click()
  await dialog(page).waitFor()
  found.twinDialog = await dialog(page).textContent()
  await dialog(page).getByRole('button', { name: 'Cancel' }).click()
  await dialog(page).waitFor({ state: 'detached' })
  found.twinKept = await view(page)
  await entry(page, twin).focus()
  await page.keyboard.press('Delete')
  await dialog(page).getByRole('button', { name: 'Delete' }).click()
  found.twinDeleted = await shown(
    page, 'one less', (now) => !now.entries.includes('Half Run') && now.said.length === 1
  )
  found.job = await details(page, job, 'half run')
  const calibrates = (event) =>
    page.evaluate(
      (detail) => window.app.api.dispatchEvent(new CustomEvent('lemica.calibration', { detail })),
      { node: '99', name: 'half run', folder: given.jobs[0], ...event }
    )
  await calibrates({ state: 'running', stage: 'sample 1 of 2', done: 30, total: 120, seconds_left: 60 })
  const other = await entry(page, 'calibration:other').boundingBox()
  await page.mouse.move(other.x + 40, other.y + other.height / 2)
  await page.mouse.down()
  await calibrates({ state: 'running', stage: 'sample 1 of 2', done: 60, total: 120, seconds_left: 60 })
  await page.mouse.up()
  found.clicked = await shown(page, 'a click amidst a redraw', (now) => now.title === 'other')
  await calibrates({ state: 'running', stage: 'sample 1 of 2', done: 30, total: 120, seconds_left: 60 })
  found.running = await details(page, job, 'half run')
  await calibrates({ state: 'stopped' })
  await shown(page, 'a stopped one', (now) => now.marks.join() === 'stopped')
  await entry(page, job).click()
  await page.keyboard.press('Home')
  await page.keyboard.press('ArrowLeft')
  found.folded = await view(page)
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('ArrowDown')
  found.walked = await view(page)
  await page.keyboard.press('Enter')
  await page.locator(`${DETAILS} header button`).focus()
  await page.keyboard.press('Escape')
  found.escaped = await view(page)

  await details(page, 'calibration:night and day')
  const left = await shown(page, 'its curve', (now) => now.budget !== '')
  await picture(page, 'library_dark')
  await open(page)
  await openTab(page)
  const after = await shown(page, 'the same again', (now) => now.budget !== '' && now.entries.length > 0)
  found.reloaded = { before: left, after }

  await renderer(page, true)
  found.vue = await view(page)
  await theme(page, 'light')
  found.light = await details(page, 'schedule:night and day/fast')
  await picture(page, 'library_light')
  await theme(page, 'dark')
  await renderer(page, false)
  await tabButton(page).click()
  found.closed = await page.locator(TAB).count()
  await openTab(page)
  found.again = await view(page)
  return found
}, { width: 1600, height: 1000 })
