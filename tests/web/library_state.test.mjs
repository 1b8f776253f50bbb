import assert from 'node:assert/strict'
import test from 'node:test'
import { entriesOf, partnersOf, sourceFacts } from '../../web/library_entries.js'
import { describeGroup, groupsOf, rowAfter, rowsOf } from '../../web/library_state.js'

const schedule = (name, changed = {}) => ({
  name, family: 'wan', steps: 50, budget: 20, computed: [0], rules: ['residual hold'],
  origin: 'published', own: false, source: {}, ...changed
})
const calibration = (name, changed = {}) => ({
  name, family: 'demo', steps: 20, mode: 'exact', metric: 'l1', rules: ['output hold'],
  samples: 2, longest: 8, ...changed
})
const library = {
  families: [
    { key: 'wan', title: 'Wan 2.1' }, { key: 'demo', title: 'The demo' },
    { key: 'z', title: 'Z-Image' }
  ],
  schedules: [
    schedule('wan/b20'), schedule('wan/b25', { budget: 25 }), schedule('wan/short', { steps: 40 }),
    schedule('by hand', { family: 'demo', own: true, origin: 'custom' }),
    schedule('shipped', { family: 'demo', origin: 'calibrated' }),
    schedule('guessed', { family: 'demo', own: true, origin: 'estimated' })
  ],
  calibrations: [calibration('night'), calibration('day'), calibration('long', { steps: 50 })],
  jobs: [{ folder: 'half-run-0123abcd', name: 'half-run', samples: 2, replays: 7 }],
  problems: []
}
const entries = entriesOf(library)
const named = (name) => entries.find((entry) => entry.name === name)
const groups = (filter) => groupsOf(entries, library.families, filter)
const names = (filter) => groups(filter).flatMap((group) => group.entries.map(({ name }) => name))

test('an entry tells where it comes from and whether it is the user\'s', () => {
  const badges = Object.fromEntries(entries.map((entry) => [entry.name, entry.badges.join()]))
  assert.deepEqual(
    [badges['wan/b20'], badges['by hand'], badges.shipped, badges.guessed, badges.night, badges['half-run']],
    ['published', 'yours', 'packaged', 'yours,estimated', 'yours', 'stopped']
  )
  assert.deepEqual(
    ['wan/b20', 'by hand', 'night', 'half-run'].map((name) => named(name).own),
    [false, true, true, true]
  )
})

test('what was imported says so, and has not the badge of the authors', () => {
  const badges = (changed, one = calibration('theirs', changed)) =>
    entriesOf({ ...library, calibrations: [one], schedules: [] })[0].badges
  assert.deepEqual(badges({ imported: true }), ['yours', 'imported'])
  const schedules = ['imported', 'predicted', 'calibrated'].map((origin) =>
    entriesOf({
      ...library, calibrations: [],
      schedules: [schedule('one', { own: true, origin, source: { imported: true } })]
    })[0].badges.join()
  )
  assert.deepEqual(schedules, ['yours,imported', 'yours,imported,predicted', 'yours,imported'])
})

test('every entry has a key of its own, and a schedule another than a calibration of its name', () => {
  const twins = entriesOf({ ...library, calibrations: [calibration('by hand')] })
  assert.equal(new Set(twins.map(({ key }) => key)).size, twins.length)
})

test('a family with nothing has an estimate for every preset', () => {
  const estimates = entries.filter(({ kind }) => kind === 'estimate')
  assert.deepEqual(estimates.map(({ data }) => data.preset), ['slow', 'medium', 'fast', 'ultra'])
  assert.deepEqual([...new Set(estimates.map(({ family }) => family))], ['z'])
})

test('families with something of the user\'s come first, and within them calibrations, then what is theirs', () => {
  assert.deepEqual(
    groups({}).map(({ key }) => key), ['unfinished', 'demo', 'wan', 'z']
  )
  const [, demo, wan] = groups({})
  assert.deepEqual(
    demo.entries.map(({ name }) => name), ['day', 'night', 'long', 'by hand', 'guessed', 'shipped']
  )
  assert.deepEqual(wan.entries.map(({ name }) => name), ['wan/short', 'wan/b25', 'wan/b20'])
  assert.deepEqual(groups({}).map(describeGroup), ['1', '6', '3', 'estimated'])
})

test('every word of a search has to occur, in whatever is known of an entry', () => {
  assert.deepEqual(names({ text: 'wan PUBLISHED' }), ['wan/short', 'wan/b25', 'wan/b20'])
  assert.deepEqual(names({ text: '25 of 50' }), ['wan/b25'])
  assert.deepEqual(names({ text: 'exact  50 steps' }), ['long'])
  assert.deepEqual(names({ text: 'wan yours' }), [])
})

test('a filter leaves one kind', () => {
  assert.deepEqual(names({ only: 'yours' }), ['day', 'night', 'long', 'by hand', 'guessed'])
  assert.deepEqual(names({ only: 'packaged' }), ['shipped', 'wan/short', 'wan/b25', 'wan/b20'])
  assert.deepEqual(names({ only: 'published' }), ['wan/short', 'wan/b25', 'wan/b20'])
  assert.deepEqual(names({ only: 'calibration', text: '20 steps' }), ['day', 'night'])
  assert.deepEqual(names({ only: 'unfinished' }), ['half-run'])
  assert.equal(names({ only: 'estimated' }).length, 5)
})

test('pictures that were learned from are listed apart, and go by their files', () => {
  const record = { name: 'a.safetensors', family: 'wan', steps: 30, made: 1.8e9, seed: 7 }
  const found = entriesOf({ ...library, records: [record, { ...record, name: 'b.safetensors' }] })
  const learned = groupsOf(found, library.families, { only: 'learned' })
  assert.deepEqual(learned.map(({ key, entries }) => [key, entries.length]), [['wan', 2]])
  const [one, two] = learned[0].entries
  assert.match(one.name, /^picture of .*, seed 7$/)
  assert.deepEqual([one.key, two.key, one.own, one.measure], ['record:a.safetensors', 'record:b.safetensors', true, '30 steps'])
})

test('a family that is not in the list is called by its key', () => {
  assert.equal(groupsOf(entries, [], {})[1].title, 'demo')
})

test('a running calibration stands in place of its folder', () => {
  const running = { name: 'Half run', folder: 'half-run-0123abcd', phase: 'running', done: 30, total: 120 }
  const jobs = entriesOf(library, [running]).filter(({ kind }) => kind === 'job')
  const [{ name, measure, badges }] = jobs
  assert.deepEqual([name, measure, ...badges], ['Half run', '25 %', 'running'])
  assert.equal(jobs[0].data.replays, 7)
  assert.equal(jobs[0].own, false, 'it cannot be deleted')
  const other = entriesOf(library, [{ ...running, name: 'another', folder: 'another-01234567' }]).filter(({ kind }) => kind === 'job')
  assert.deepEqual(other.map(({ name }) => name), ['another', 'half-run'])
})

test('calibrations whose names are written alike are told apart', () => {
  const [one, two] = [
    { folder: 'test-1-0123abcd', name: 'Test 1', samples: 1, replays: 2 },
    { folder: 'test-1-89abcdef', name: 'test-1', samples: 3, replays: 4 }
  ]
  const jobsOf = (jobs, running) => entriesOf({ ...library, jobs }, running).filter(({ kind }) => kind === 'job')
  const both = jobsOf([one, two], [])
  assert.deepEqual(both.map(({ key, name }) => [key, name]), [
    ['job:test-1-0123abcd', 'Test 1'], ['job:test-1-89abcdef', 'test-1']
  ])
  const running = { name: 'test-1', folder: two.folder, phase: 'running', done: 1, total: 4 }
  assert.deepEqual(
    jobsOf([one, two], [running]).map(({ name, badges, data }) => [name, badges[0], data.samples]),
    [['test-1', 'running', 3], ['Test 1', 'stopped', 1]]
  )
})

test('rows are those of open families, of which a large one is shown in part', () => {
  const rows = rowsOf(groups({}), (key) => key === 'wan')
  assert.deepEqual(rows.map(({ key }) => key), [
    'family:unfinished', 'family:demo', 'family:wan', 'schedule:wan/short', 'schedule:wan/b25',
    'schedule:wan/b20', 'family:z'
  ])
  const many = Array.from({ length: 5000 }, (_, index) => schedule(`wan/${index}`))
  const large = groupsOf(entriesOf({ ...library, schedules: many }), library.families)
  const part = rowsOf(large, (key) => key === 'wan').filter(({ group }) => group === 'wan')
  assert.deepEqual([part.length, part.at(-1).type, part.at(-1).hidden], [202, 'more', 4800])
  assert.equal(rowsOf(large, (key) => key === 'wan', () => true).filter(({ group }) => group === 'wan').length, 5001)
})

test('keys move through the rows and stop at their ends', () => {
  const rows = rowsOf(groups({}), () => false)
  assert.equal(rowAfter(rows, 'family:demo', 'ArrowDown'), 'family:wan')
  assert.equal(rowAfter(rows, 'family:unfinished', 'ArrowUp'), 'family:unfinished')
  assert.equal(rowAfter(rows, 'family:demo', 'End'), 'family:z')
  assert.equal(rowAfter(rows, 'family:z', 'Home'), 'family:unfinished')
  assert.equal(rowAfter(rows, 'family:demo', 'x'), null)
})

test('a calibration is merged with others of its family, steps, mode and metric', () => {
  assert.deepEqual(partnersOf(entries, named('night')).map(({ name }) => name), ['day'])
  assert.deepEqual(partnersOf(entries, named('long')), [])
})

test('a source is told in lines', () => {
  assert.deepEqual(
    sourceFacts({ repo: 'a/b', left_out: [9], measured: { worst: 0.030049251, of: 6 }, nothing: null, empty: [] }),
    [['repo', 'a/b'], ['left out', '9'], ['measured worst', '0.0300'], ['measured of', '6']]
  )
})
