/**
 * The entries of the library: schedules, calibrations, estimates where there are neither, unfinished calibrations, and
 * the pictures that were learned from.
 * Pure: knows neither ComfyUI nor the page.
 */

/**
 * @typedef {object} Entry
 * @property {'schedule' | 'calibration' | 'estimate' | 'job' | 'record'} kind
 * @property {string} key of its own among all entries
 * @property {string} name
 * @property {string} family
 * @property {boolean} own whether it is the user's to change
 * @property {string[]} badges where it comes from, the most telling first
 * @property {string} measure its size in few words
 * @property {number} steps
 * @property {any} data as the server gave it
 */

/** Stands for the family of what is not finished: the disk does not tell it. */
export const UNFINISHED = 'unfinished'
export const PRESETS = ['slow', 'medium', 'fast', 'ultra']
const PLAIN_ORIGINS = ['calibrated', 'custom', 'imported']

/** The key of an entry. */
export const keyOf = (kind, name) => `${kind}:${name}`

function scheduleEntry(schedule) {
  const { name, family, own, origin, steps, budget, source } = schedule
  const from = own ? 'yours' : origin === 'published' ? 'published' : 'packaged'
  const said = own && PLAIN_ORIGINS.includes(origin)
  const more = said || origin === 'calibrated' || origin === from ? [] : [origin]
  return {
    kind: 'schedule', key: keyOf('schedule', name), name, family, own, steps,
    badges: [from, ...importedBadge(source.imported), ...more], measure: `${budget} of ${steps}`, data: schedule
  }
}

/** Where a file says that it comes from is its own word. */
const importedBadge = (imported) => (imported ? ['imported'] : [])

function calibrationEntry(calibration) {
  const { name, family, steps, imported } = calibration
  return {
    kind: 'calibration', key: keyOf('calibration', name), name, family, own: true, steps,
    badges: ['yours', ...importedBadge(imported)], measure: `${steps} steps`, data: calibration
  }
}

const estimateEntry = (family, preset) => ({
  kind: 'estimate', key: keyOf('estimate', `${family}/${preset}`), name: `preset ${preset}`,
  family, own: false, steps: 0, badges: ['estimated'], measure: '', data: { preset }
})

function jobEntry(folder, job, running) {
  const share = running?.total ? `${Math.floor((100 * running.done) / running.total)} %` : ''
  return {
    kind: 'job', key: keyOf('job', folder), name: running?.name ?? job.name, family: UNFINISHED,
    own: !running, steps: 0, badges: [running ? 'running' : 'stopped'],
    measure: share || counted(job?.samples ?? 0, 'sample'), data: { ...job, folder, running }
  }
}

function recordEntry(record) {
  const { name, family, steps, made, seed, title, left_out: leftOut } = record
  return {
    kind: 'record', key: keyOf('record', name), name: title || `picture of ${momentText(made)}, seed ${seed}`, family, own: true,
    steps, badges: ['learned', ...(leftOut ? ['left out'] : [])], measure: `${steps} steps`, data: record
  }
}

const momentText = (seconds) => new Date(seconds * 1000).toLocaleString()

export const counted = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`

/**
 * @param {any} library an answer of GET /lemica/library
 * @param {{ name: string, folder: string, done: number, total: number }[]} running calibrations
 * @returns {Entry[]}
 */
export function entriesOf(library, running = []) {
  const known = [
    ...library.calibrations.map(calibrationEntry), ...library.schedules.map(scheduleEntry)
  ]
  const covered = new Set(known.map((entry) => entry.family))
  const estimates = library.families
    .filter(({ key }) => !covered.has(key))
    .flatMap(({ key }) => PRESETS.map((preset) => estimateEntry(key, preset)))
  const folders = new Map(library.jobs.map((job) => [job.folder, job]))
  const active = new Map(running.map((one) => [one.folder, one]))
  const jobs = [...new Set([...active.keys(), ...folders.keys()])].map((folder) =>
    jobEntry(folder, folders.get(folder), active.get(folder))
  )
  return [...known, ...estimates, ...jobs, ...(library.records ?? []).map(recordEntry)]
}

/**
 * The calibrations that can be told not to differ from one, as far as the list tells.
 * @param {Entry[]} entries
 * @param {Entry} one
 */
export const partnersOf = (entries, one) =>
  entries.filter(
    ({ kind, key, family, steps, data }) =>
      kind === 'calibration' && key !== one.key && family === one.family && steps === one.steps &&
      data.mode === one.data.mode && data.metric === one.data.metric
  )

/**
 * What is written down of where a schedule comes from, as lines; what is nested gets the name of what it is in.
 * @param {Record<string, any>} source
 * @returns {[string, string][]}
 */
export const sourceFacts = (source) =>
  Object.entries(source).flatMap(([name, value]) => {
    if (value === null || value === '') return []
    if (typeof value !== 'object') return [[name.replaceAll('_', ' '), valueText(name, value)]]
    if (Array.isArray(value)) return value.length ? [[name.replaceAll('_', ' '), value.map(String).join(', ')]] : []
    return sourceFacts(value).map(([inner, text]) => [`${name} ${inner}`, text])
  })

function valueText(name, value) {
  if (name === 'saved') return momentText(value)
  if (typeof value === 'number' && !Number.isInteger(value)) return value.toPrecision(3)
  return String(value)
}
