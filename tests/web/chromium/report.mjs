/** LeMiCa Report: its table, and the divider between full and accelerated frames. */
import fs from 'node:fs'
import {
  boxOf, focusOn, given, load, onPage, open, queue, renderer, shoot, stored, theme, until
} from './page.mjs'

const NODE = 'LeMiCaReport'

const set = (page, type, name, value) =>
  page.evaluate(
    ([type, name, value]) => {
      for (const node of window.app.graph._nodes.filter((one) => one.type === type)) {
        node.widgets.find((one) => one.name === name).value = value
      }
    },
    [type, name, value]
  )

const view = (page) =>
  page.evaluate(() => {
    const element = document.querySelector('.lemica-report')
    const [under, over] = element.querySelectorAll('.lemica-compare img')
    const stage = element.querySelector('.lemica-compare')
    return {
      shown: stage.getClientRects().length > 0,
      table: [...element.querySelectorAll('tr')].map((row) =>
        [...row.children].map((cell) => cell.textContent)
      ),
      notes: element.querySelector('table ~ .lemica-note').textContent,
      sizes: [under, over].map((one) => [one.naturalWidth, one.naturalHeight]),
      different: under.src !== over.src,
      clip: over.style.clipPath,
      now: stage.getAttribute('aria-valuenow'),
      frame: element.querySelector('.lemica-frames span').textContent,
      pictures: window.app.graph._nodes.find((one) => one.type === 'LeMiCaReport').imgs?.length ?? 0
    }
  })

await onPage(async (page) => {
  await load(page, JSON.parse(fs.readFileSync(given.compare, 'utf8')))
  await set(page, 'KSampler', 'steps', given.steps)
  await set(page, 'LeMiCa', 'preset', 'fast')
  const error = await queue(page)
  const loaded = () =>
    page.waitForFunction(() =>
      [...document.querySelectorAll('.lemica-compare img')].length === 2 &&
      [...document.querySelectorAll('.lemica-compare img')].every((one) => one.naturalWidth)
    )
  await loaded()
  await focusOn(page, NODE, 1, 100, 150)
  const done = await view(page)
  const stage = page.locator('.lemica-compare')
  await stage.focus()
  await page.keyboard.press('ArrowLeft')
  await page.keyboard.press('Shift+ArrowLeft')
  const keyed = await view(page)
  const box = await stage.boundingBox()
  await page.mouse.move(box.x + box.width * 0.4, box.y + 40)
  await page.mouse.down()
  await page.mouse.move(box.x + box.width * 0.6, box.y + 60)
  await page.mouse.move(box.x + box.width * 0.55, box.y + 60)
  await page.mouse.up()
  const dragged = await view(page)
  await shoot(page, `${given.shots}/report_dark.png`, await boxOf(page, NODE))
  await page.locator('.lemica-frames input').focus()
  await page.keyboard.press('End')
  const last = await until(page, 'the last frame', () => view(page), ({ frame }) => frame !== dragged.frame)
  await stored(page)
  await open(page)
  await loaded()
  const reloaded = await view(page)
  await renderer(page, true)
  await focusOn(page, NODE, 1, 100, 150)
  await loaded()
  const vue = await view(page)
  const vueBox = await page.locator('.lemica-report').boundingBox()
  await theme(page, 'light')
  await shoot(page, `${given.shots}/report_light.png`, await boxOf(page, NODE, 24))
  await theme(page, 'dark')
  await renderer(page, false)
  return { error, done, keyed, dragged, last, reloaded, vue, vueBox }
}, { width: 1300, height: 1150 })
