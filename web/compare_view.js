/** The report of LeMiCa Report: its table, and full and accelerated frames with a divider to drag. */

/**
 * @typedef {object} Report
 * @property {string[][]} rows of the table, the first one its head
 * @property {string[]} notes
 */

/**
 * The table and the lines of a report in Markdown, as nodes/report.py writes it.
 * @param {string} text
 * @returns {Report}
 */
export function parseReport(text) {
  const lines = text.split('\n').map((line) => line.trim()).filter(Boolean)
  const rows = lines
    .filter((line) => line.startsWith('|') && !/^\|[\s|-]+$/.test(line.replaceAll(' ', '')))
    .map((line) => line.slice(1, -1).split('|').map((cell) => cell.trim()))
  return { rows, notes: lines.filter((line) => !line.startsWith('|')) }
}

/**
 * Where the divider goes when a key is pressed, in percent; null for a key that does not move it.
 * @param {number} place
 * @param {string} key
 * @param {boolean} far
 */
export function dividerAt(place, key, far) {
  const step = far ? 10 : 2
  const to = {
    ArrowLeft: place - step,
    ArrowRight: place + step,
    PageDown: place - 10,
    PageUp: place + 10,
    Home: 0,
    End: 100
  }[key]
  return to === undefined ? null : Math.min(Math.max(to, 0), 100)
}

/**
 * @param {HTMLElement} element
 * @param {(frame: { filename: string, subfolder: string, type: string }) => string} urlOf
 */
export function createCompareView(element, urlOf) {
  element.classList.add('lemica-report')
  const hint = div('lemica-note')
  hint.textContent = 'Queue it to compare the frames of both runs.'
  const stage = div('lemica-compare')
  stage.tabIndex = 0
  stage.setAttribute('role', 'slider')
  stage.setAttribute('aria-label', 'Divider between the full and the accelerated frame')
  stage.setAttribute('aria-valuemin', '0')
  stage.setAttribute('aria-valuemax', '100')
  const under = image('Frame of the accelerated run')
  const over = image('Frame of the full run')
  const divider = div('lemica-divider')
  const sides = [div('lemica-side lemica-side-full'), div('lemica-side lemica-side-accelerated')]
  sides[0].textContent = 'full'
  sides[1].textContent = 'accelerated'
  stage.append(under, over, divider, ...sides)
  const frames = document.createElement('label')
  frames.className = 'lemica-frames'
  const slider = document.createElement('input')
  slider.type = 'range'
  slider.className = 'lemica-slider'
  slider.min = '0'
  slider.setAttribute('aria-label', 'Frame')
  const caption = document.createElement('span')
  frames.append(slider, caption)
  const table = document.createElement('table')
  const notes = div('lemica-note')
  element.append(hint, stage, frames, table, notes)

  /** @type {any} */
  let output = null
  let index = 0
  let place = 50

  function divide(/** @type {number} */ next) {
    place = next
    over.style.clipPath = `inset(0 ${100 - place}% 0 0)`
    divider.style.left = `${place}%`
    stage.setAttribute('aria-valuenow', String(Math.round(place)))
    stage.setAttribute('aria-valuetext', `${Math.round(place)}% of the full frame`)
  }

  function show(/** @type {number} */ next) {
    index = Math.min(Math.max(next, 0), output.full.length - 1)
    slider.value = String(index)
    under.src = urlOf(output.accelerated[index])
    over.src = urlOf(output.full[index])
    const words = output.frames?.[index] ?? `frame ${index + 1}`
    caption.textContent = words
    slider.setAttribute('aria-valuetext', words)
  }

  over.addEventListener('load', () => {
    const small = over.naturalWidth < stage.clientWidth / 2
    for (const picture of [under, over]) picture.classList.toggle('lemica-small', small)
    hint.classList.add('lemica-hidden')
    stage.classList.remove('lemica-hidden')
  })
  over.addEventListener('error', () => {
    stage.classList.add('lemica-hidden')
    hint.textContent = 'The frames are no longer on the server: queue again to see them.'
    hint.classList.remove('lemica-hidden')
  })
  slider.addEventListener('input', () => show(Number(slider.value)))
  slider.addEventListener('keydown', (event) => event.stopPropagation())
  stage.addEventListener('keydown', (event) => {
    const next = dividerAt(place, event.key, event.shiftKey)
    if (next === null) return
    event.preventDefault()
    event.stopPropagation()
    divide(next)
  })
  const drag = (/** @type {PointerEvent} */ event) => {
    const box = stage.getBoundingClientRect()
    divide(Math.min(Math.max(((event.clientX - box.left) / box.width) * 100, 0), 100))
  }
  stage.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return
    stage.setPointerCapture(event.pointerId)
    stage.focus({ preventScroll: true })
    drag(event)
  })
  stage.addEventListener('pointermove', (event) => {
    if (stage.hasPointerCapture(event.pointerId)) drag(event)
  })

  const view = {
    element,
    minHeight: () => (output ? 400 : 40),
    /**
     * @param {any} next what the node put out: text, full, accelerated, frames; null before the first run
     */
    show(next) {
      output = next?.full?.length ? next : null
      for (const part of [stage, frames, table, notes]) {
        part.classList.toggle('lemica-hidden', !output)
      }
      hint.classList.toggle('lemica-hidden', output !== null)
      element.style.setProperty('--lemica-height', `${view.minHeight()}px`)
      if (!output) return
      const report = parseReport(output.text[0])
      table.replaceChildren(...report.rows.map((cells, row) => tableRow(cells, row ? 'td' : 'th')))
      notes.textContent = report.notes.join(' ')
      slider.max = String(output.full.length - 1)
      frames.classList.toggle('lemica-hidden', output.full.length < 2)
      show(Math.min(index, output.full.length - 1))
    }
  }
  divide(50)
  view.show(null)
  return view
}

/** @param {string} name */
function div(name) {
  const element = document.createElement('div')
  element.className = name
  return element
}

/** @param {string} words */
function image(words) {
  const element = document.createElement('img')
  element.alt = words
  element.draggable = false
  return element
}

/**
 * @param {string[]} cells
 * @param {'td' | 'th'} kind
 */
function tableRow(cells, kind) {
  const row = document.createElement('tr')
  row.append(
    ...cells.map((words) => {
      const cell = document.createElement(kind)
      cell.textContent = words
      return cell
    })
  )
  return row
}
