/** A calibration of the embedded model, cancelled, gone on with, and found again after a reload, in both renderers. */
import fs from 'node:fs'
import {
  boxOf, ended, focusOn, given, load, onPage, open, queue, renderer, shoot, theme
} from './page.mjs'

const NODE = 'LeMiCaCalibrate'

const set = (page, values) =>
  page.evaluate(
    ([type, values]) => {
      const node = window.app.graph._nodes.find((one) => one.type === type)
      for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find((one) => one.name === name)
        widget.value = value
        widget.callback?.(value)
      }
    },
    [NODE, values]
  )

const view = (page) =>
  page.evaluate(() => {
    const element = document.querySelector('.lemica-calibrate-view')
    const shown = (selector) => {
      const found = element.querySelector(selector)
      return found !== null && found.getClientRects().length > 0
    }
    const text = (selector) => element.querySelector(selector)?.textContent ?? ''
    return {
      map: shown('.lemica-map'),
      curve: shown('.lemica-curve'),
      progress: shown('.lemica-progress'),
      headline: text('.lemica-progress b'),
      detail: text('.lemica-progress-detail'),
      hint: shown('.lemica-hint'),
      hinted: text('.lemica-hint'),
      budget: element.dataset.budget ?? '',
      numbers: text('.lemica-numbers'),
      name: window.app.graph._nodes.find((one) => one.type === 'LeMiCaCalibrate')
        .properties.lemica_calibration
    }
  })

/** How much of the map is coloured, in pixels below the bar that explains the colours. */
const coloured = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector('.lemica-calibrate-view .lemica-map-base')
    if (!canvas?.width || !canvas.offsetParent) return 0
    const top = Math.round((40 * canvas.height) / canvas.clientHeight)
    const { data } = canvas
      .getContext('2d')
      .getImageData(0, top, canvas.width, canvas.height - top)
    let count = 0
    for (let at = 0; at < data.length; at += 4) {
      const [red, green, blue, alpha] = data.slice(at, at + 4)
      const spread = Math.max(red, green, blue) - Math.min(red, green, blue)
      if (alpha === 255 && spread > 40) count += 1
    }
    return count
  })

/** Frames per second, and the longest gap between two, over some seconds. */
const frames = (page, seconds) =>
  page.evaluate(
    (seconds) =>
      new Promise((resolve) => {
        const times = []
        const note = (time) => {
          times.push(time)
          if (time - times[0] < seconds * 1000) requestAnimationFrame(note)
          else {
            const gaps = times.slice(1).map((time, index) => time - times[index])
            resolve({
              perSecond: gaps.length / ((times.at(-1) - times[0]) / 1000),
              longest: Math.max(...gaps)
            })
          }
        }
        requestAnimationFrame(note)
      }),
    seconds
  )

/** Events of a large calibration, as fast as a server sends them, without one that computes. */
const flood = (page, name) =>
  page.evaluate((name) => {
    const { app } = window
    const node = app.graph._nodes.find((one) => one.type === 'LeMiCaCalibrate')
    let end = 2
    window.lemicaFlood = setInterval(() => {
      const cells = []
      for (let count = 0; count < 10 && end < 200; count += 1, end += 1) {
        for (let start = Math.max(end - 24, 0); start < end - 1; start += 1) {
          cells.push([start, end, ((end - start) / 200) ** 1.5 * (0.5 + Math.random()), 'output hold'])
        }
      }
      const detail = {
        node: String(node.id), name, state: 'running', stage: 'sample 1 of 4', done: end, total: 800,
        seconds_left: 60, grid: [200, 24], cells
      }
      app.api.dispatchEvent(new CustomEvent('lemica.calibration', { detail }))
    }, 250)
  }, name)

await onPage(async (page) => {
  // As an earlier version has saved it
  const saved = fs.readFileSync(given.workflow, 'utf8').replace('"short"', '"standard"')
  await load(page, JSON.parse(saved))
  const effort = await page.evaluate(
    () =>
      window.app.graph._nodes
        .find((one) => one.type === 'LeMiCaCalibrate')
        .widgets.find(({ name }) => name === 'mode').value
  )
  await set(page, {
    steps: given.steps, tries: 1, name: given.name, mode: 'exact', rules: 'output', seed: 5
  })
  await focusOn(page, NODE, 1, 100, 150)
  await page.waitForTimeout(1000)
  const before = await view(page)

  const idle = await frames(page, 2)
  await queue(page, false)
  await page.waitForSelector('.lemica-calibrate-view .lemica-progress:not(.lemica-hidden)')
  const begun = await view(page)
  await page.waitForSelector('.lemica-calibrate-view .lemica-map:not(.lemica-hidden)')
  const first = await coloured(page)
  const busy = await frames(page, 2)
  await focusOn(page, NODE, 1, 100, 150)
  const running = { ...(await view(page)), coloured: await coloured(page) }
  await shoot(page, `${given.shots}/calibrate_running.png`, await boxOf(page, NODE))
  await page.evaluate(() => window.app.api.interrupt())
  await ended(page)
  await page.waitForFunction(
    () => document.querySelector('.lemica-calibrate-view .lemica-progress b').textContent === 'Stopped'
  )
  const stopped = { ...(await view(page)), coloured: await coloured(page) }

  await queue(page, false)
  await page.waitForSelector('.lemica-calibrate-view .lemica-map:not(.lemica-hidden)')
  const resumed = await view(page)
  const error = await ended(page)
  await page.waitForSelector('.lemica-calibrate-view[data-budget]:not([data-budget=""])')
  await page.waitForTimeout(800)
  const done = { ...(await view(page)), coloured: await coloured(page) }
  const solver = await page.locator('.lemica-solve-view').getAttribute('data-budget')
  await focusOn(page, NODE, 1, 100, 150)
  await shoot(page, `${given.shots}/calibrate_done_dark.png`, await boxOf(page, NODE))

  const map = page.locator('.lemica-calibrate-view .lemica-map')
  await map.focus()
  await page.keyboard.press('Tab')
  await page.keyboard.press('Shift+Tab')
  const words = [await page.locator('.lemica-calibrate-view .lemica-map-detail').textContent()]
  for (const key of ['Home', 'ArrowRight', 'ArrowUp']) {
    await page.keyboard.press(key)
    words.push(await page.locator('.lemica-calibrate-view .lemica-map-detail').textContent())
  }
  const box = await map.boundingBox()
  await page.mouse.move(box.x + box.width * 0.3, box.y + box.height * 0.6)
  await page.waitForTimeout(200)
  const hovered = await page.locator('.lemica-calibrate-view .lemica-map-detail').textContent()
  await page.mouse.move(5, 5)

  await page.waitForTimeout(1500)
  await open(page)
  await page.waitForSelector('.lemica-calibrate-view[data-budget]:not([data-budget=""])')
  await page.waitForTimeout(500)
  const reloaded = { ...(await view(page)), coloured: await coloured(page) }

  await renderer(page, true)
  await focusOn(page, NODE, 1, 100, 150)
  await page.waitForSelector('.lemica-calibrate-view[data-budget]:not([data-budget=""])')
  await page.waitForTimeout(800)
  const vue = { ...(await view(page)), coloured: await coloured(page) }
  const vueBox = await page.locator('.lemica-calibrate-view').boundingBox()
  await theme(page, 'light')
  await page.waitForTimeout(800)
  await shoot(page, `${given.shots}/calibrate_done_light.png`, await boxOf(page, NODE, 24))
  await theme(page, 'dark')
  await renderer(page, false)
  await focusOn(page, NODE, 1, 100, 150)
  const quiet = await frames(page, 2)
  await flood(page, given.name)
  await page.waitForTimeout(500)
  const flooded = await frames(page, 4)
  await page.evaluate(() => clearInterval(window.lemicaFlood))
  return {
    quiet, flooded, effort, first,
    before, begun, running, stopped, resumed, error, done, solver, words, hovered, reloaded, vue, vueBox, idle, busy
  }
}, { width: 1300, height: 1500 })
