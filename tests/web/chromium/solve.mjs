/** LeMiCa Solve: the slider, its widgets, options, saving as a preset, and the LeMiCa node that uses it. */
import fs from 'node:fs'
import {
  boxOf, focusOn, given, load, onPage, open, queue, renderer, shoot, theme
} from './page.mjs'

const NODE = 'LeMiCaSolve'
const SOLVED = '.lemica-solve-view[data-budget]:not([data-budget=""])'

const set = (page, values, type = NODE) =>
  page.evaluate(
    ([type, values]) => {
      for (const node of window.app.graph._nodes.filter((one) => one.type === type)) {
        for (const [name, value] of Object.entries(values)) {
          const widget = node.widgets.find((one) => one.name === name)
          widget.value = value
          widget.callback?.(value)
        }
      }
    },
    [type, values]
  )

const view = (page) =>
  page.evaluate(() => {
    const node = window.app.graph._nodes.find((one) => one.type === 'LeMiCaSolve')
    const element = document.querySelector('.lemica-solve-view')
    const value = (name) => node.widgets.find((one) => one.name === name).value
    const text = (selector) => element.querySelector(selector)?.textContent ?? ''
    return {
      shown: element.getClientRects().length > 0,
      budget: Number(element.dataset.budget),
      caption: text('.lemica-budget span'),
      numbers: text('.lemica-numbers'),
      message: text('.lemica-message'),
      saves: [...element.querySelectorAll('.lemica-saves button')].map((one) => one.textContent),
      figures: [...element.querySelectorAll('.lemica-figure')].map((one) => one.textContent),
      undo: element.querySelector('.lemica-undo:not(.lemica-hidden)')?.textContent ?? '',
      curve: element.querySelector('.lemica-error-line')?.getAttribute('points') ?? '',
      preset: value('preset'),
      widget: value('budget'),
      calibration: value('calibration')
    }
  })

/** The names of the user's schedules that are saved as a preset. */
const own = (page) =>
  page.evaluate(async () => {
    const answer = await window.app.api.fetchApi('/lemica/library')
    const { schedules } = await answer.json()
    return schedules.filter((one) => one.own && one.source.preset).map((one) => one.name)
  })

/** The view shows the path of a budget. */
const solved = (page, budget) =>
  page.waitForFunction(
    (budget) => document.querySelector('.lemica-solve-view')?.dataset.budget === String(budget),
    budget
  )

/** The milliseconds from each of some moves of the slider to the frame that shows the new path. */
const moves = (page, count) =>
  page.evaluate(async (count) => {
    const element = document.querySelector('.lemica-solve-view')
    const slider = element.querySelector('.lemica-slider')
    const frame = () => new Promise(requestAnimationFrame)
    const times = []
    for (let move = 0; move < count; move += 1) {
      const before = element.dataset.budget
      const next = Math.round(((move * 7) % 29 + 4) / 34 * Number(slider.max))
      if (String(next) === slider.value) continue
      const begin = performance.now()
      const changed = new Promise((resolve) => {
        const observer = new MutationObserver(() => {
          if (element.dataset.budget === before) return
          observer.disconnect()
          resolve()
        })
        observer.observe(element, { attributes: true })
      })
      slider.value = String(next)
      slider.dispatchEvent(new Event('input'))
      await changed
      await frame()
      times.push(performance.now() - begin)
      await new Promise((resolve) => setTimeout(resolve, 120))
    }
    return times
  }, count)

/** Many moves at once: how many requests they made, and whether the last one won. */
async function rush(page) {
  let requests = 0
  const count = (request) => {
    if (request.url().endsWith('/lemica/solve')) requests += 1
  }
  page.on('request', count)
  const last = await page.evaluate(() => {
    const slider = document.querySelector('.lemica-solve-view .lemica-slider')
    for (let index = 5; index < 35; index += 1) {
      slider.value = String(index)
      slider.dispatchEvent(new Event('input'))
    }
    return Number(document.querySelector('.lemica-solve-view .lemica-budget span').textContent.split(' ')[1])
  })
  await solved(page, last)
  await page.waitForTimeout(600)
  page.off('request', count)
  return { requests, last, budget: (await view(page)).budget }
}

await onPage(async (page) => {
  await load(page, given.alone)
  await set(page, { calibration: given.synthetic[0] })
  await page.waitForSelector(SOLVED)
  await focusOn(page, NODE, 1, 100, 150)
  const opened = await view(page)
  const times = { [given.synthetic[0]]: await moves(page, 12) }
  const rushed = await rush(page)
  await page.locator('.lemica-solve-view .lemica-slider').focus()
  await page.keyboard.press('ArrowLeft')
  await solved(page, rushed.last - 1)
  const keyed = await view(page)
  await shoot(page, `${given.shots}/solve_dark.png`, await boxOf(page, NODE))
  await set(page, { preset: 'fast' })
  await page.waitForTimeout(800)
  const preset = await view(page)
  await set(page, { objective: 'shortest path', compute_last: true, rules: 'output hold' })
  await page.waitForFunction(
    (before) =>
      document.querySelector('.lemica-solve-view .lemica-error-line').getAttribute('points') !== before,
    preset.curve
  )
  await page.waitForTimeout(500)
  const shortest = await view(page)
  await set(page, { objective: 'minimax', compute_last: false, rules: 'residual half' })
  await page.waitForTimeout(800)
  const refused = await view(page)
  await set(page, { rules: 'best per segment' })
  await set(page, { calibration: given.synthetic[1] })
  await page.waitForFunction(
    () => / of 200$/.test(document.querySelector('.lemica-solve-view .lemica-budget span').textContent)
  )
  await page.waitForTimeout(800)
  times[given.synthetic[1]] = await moves(page, 8)
  await shoot(page, `${given.shots}/solve_200_steps.png`, await boxOf(page, NODE))

  await set(page, { calibration: given.calibration, preset: 'custom', budget: given.budget })
  await page.waitForFunction(
    (budget) => document.querySelector('.lemica-solve-view')?.dataset.budget === String(budget),
    given.budget
  )
  const fast = page.locator('.lemica-solve-view button[data-preset="fast"]')
  const told = (pattern) =>
    page.waitForFunction(
      (pattern) => new RegExp(pattern).test(
        document.querySelector('.lemica-solve-view .lemica-message').textContent
      ),
      pattern
    )
  await fast.hover()
  await told('^fast: ')
  const foretold = await view(page)
  await page.locator('.lemica-solve-view .lemica-all-steps').check()
  await fast.click()
  await told('^Saved')
  const forAll = await view(page)
  await page.locator('.lemica-solve-view .lemica-undo').click()
  await told('^Undone')
  const undone = { ...(await view(page)), library: await own(page) }
  await page.locator('.lemica-solve-view .lemica-all-steps').uncheck()
  await fast.focus()
  await told('^fast: ')
  const focused = await view(page)
  await fast.click()
  await told('^Saved')
  const saved = await view(page)
  await page.waitForTimeout(1500)
  await open(page)
  await page.waitForSelector(SOLVED)
  await page.waitForTimeout(500)
  const reloaded = await view(page)

  await renderer(page, true)
  await focusOn(page, NODE, 1, 100, 150)
  await page.waitForSelector(SOLVED)
  await page.waitForTimeout(800)
  const vue = await view(page)
  const vueBox = await page.locator('.lemica-solve-view').boundingBox()
  await theme(page, 'light')
  await page.waitForTimeout(800)
  await shoot(page, `${given.shots}/solve_light.png`, await boxOf(page, NODE, 24))
  await theme(page, 'dark')
  await renderer(page, false)

  await load(page, JSON.parse(fs.readFileSync(given.compare, 'utf8')))
  await set(page, { steps: given.steps }, 'KSampler')
  await set(page, { preset: 'fast' }, 'LeMiCa')
  await page.evaluate(() => {
    window.lemicaReports = []
    window.app.api.addEventListener('lemica.run', ({ detail }) => window.lemicaReports.push(detail))
  })
  const error = await queue(page)
  const reports = await page.evaluate(() => window.lemicaReports)
  return {
    opened, times, rushed, keyed, preset, shortest, refused, foretold, forAll, undone, focused, saved, reloaded, vue,
    vueBox, error, reports
  }
}, { width: 1300, height: 1200 })
