/** A calibration of the embedded model, cancelled, gone on with, and found again after a reload, in both renderers. */
import fs from 'node:fs'
import {
  boxOf, drawn, ended, focusOn, given, load, onPage, open, queue, renderer, shoot, stored, theme, until
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

/** The view of a calibration that is done, once its map is drawn; as before, where there was one. */
async function complete(page, before) {
  await drawn(page)
  const look = async () => ({ ...(await view(page)), coloured: await coloured(page) })
  const isDone = (now) => now.map && now.curve && !now.progress && now.numbers !== '' && now.coloured > 0
  return until(page, 'a finished map', look, (now) => isDone(now) && (!before || now.numbers === before.numbers))
}

/** How many pixels of the map are in the colour that text has now. */
const inked = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector('.lemica-calibrate-view .lemica-map-base')
    const wanted = getComputedStyle(canvas.parentElement).color.match(/\d+/g).slice(0, 3).map(Number)
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    let count = 0
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] === 255 && wanted.every((value, index) => data[at + index] === value)) count += 1
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

/** Waits until the view says this. */
const hints = (page, words) =>
  page.waitForFunction(
    (words) => document.querySelector('.lemica-calibrate-view .lemica-hint')?.textContent.includes(words), words
  )

const settled = (page) =>
  set(page, { steps: given.steps, mode: 'exact', tries: 1, name: given.name, rules: 'output', seed: 5 })

/** The workflow as it came, with the settings of the calibration, once its node says this. */
async function fresh(page, words) {
  await load(page, JSON.parse(fs.readFileSync(given.workflow, 'utf8')))
  await settled(page)
  await hints(page, words)
  await focusOn(page, NODE, 1, 100, 150)
  return view(page)
}

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
  await settled(page)
  await focusOn(page, NODE, 1, 100, 150)
  const before = await until(page, 'an estimate', () => view(page), ({ hinted }) => hinted.startsWith('About'))

  const idle = await frames(page, 2)
  await page.evaluate(() => {
    const told = new Set()
    window.lemicaCells = []
    window.app.api.addEventListener('lemica.calibration', ({ detail }) => {
      if (!detail.cells?.length) return
      for (const [start, end, , rule] of detail.cells) told.add([start, end, rule].join())
      window.lemicaCells.push(told.size)
    })
  })
  await queue(page, false)
  await page.waitForSelector('.lemica-calibrate-view .lemica-progress:not(.lemica-hidden)')
  const begun = await view(page)
  await page.waitForSelector('.lemica-calibrate-view .lemica-map:not(.lemica-hidden)')
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
  const told = await page.evaluate(() => window.lemicaCells)
  const kept = await fresh(page, 'are kept')

  await queue(page, false)
  await page.waitForSelector('.lemica-calibrate-view .lemica-map:not(.lemica-hidden)')
  const resumed = await view(page)
  const error = await ended(page)
  await page.waitForSelector('.lemica-calibrate-view[data-budget]:not([data-budget=""])')
  const done = await complete(page, null)
  await focusOn(page, 'LeMiCaSolve', 1, 100, 150) // a view out of sight need not be in the page
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
  const hovered = await until(
    page, 'words of the cell', () => page.locator('.lemica-calibrate-view .lemica-map-detail').textContent(),
    (text) => text !== words.at(-1)
  )
  await page.mouse.move(5, 5)

  await stored(page)
  await open(page)
  await page.waitForSelector('.lemica-calibrate-view[data-budget]:not([data-budget=""])')
  const reloaded = await complete(page, done)

  await renderer(page, true)
  await focusOn(page, NODE, 1, 100, 150)
  await page.waitForSelector('.lemica-calibrate-view[data-budget]:not([data-budget=""])')
  const vue = await complete(page, done)
  const vueBox = await page.locator('.lemica-calibrate-view').boundingBox()
  await theme(page, 'light')
  const ink = await until(page, 'labels in the colour of the theme', () => inked(page), (pixels) => pixels > 0)
  await shoot(page, `${given.shots}/calibrate_done_light.png`, await boxOf(page, NODE, 24))
  await theme(page, 'dark')
  await renderer(page, false)
  await focusOn(page, NODE, 1, 100, 150)
  const quiet = await frames(page, 2)
  await flood(page, given.name)
  await page.waitForSelector('.lemica-calibrate-view .lemica-progress:not(.lemica-hidden)')
  const flooded = await frames(page, 4)
  await page.evaluate(() => clearInterval(window.lemicaFlood))
  const finished = await fresh(page, 'Finished')
  await set(page, { cfg: 2.5 })
  await hints(page, 'other')
  const other = await view(page)
  return {
    quiet, flooded, ink, kept, finished, other, effort, told,
    before, begun, running, stopped, resumed, error, done, solver, words, hovered, reloaded, vue, vueBox, idle, busy
  }
}, { width: 1300, height: 1500 })
