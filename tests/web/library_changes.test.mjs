import assert from 'node:assert/strict'
import test from 'node:test'
import { createChanges } from '../../web/library_changes.js'
import { createServer } from '../../web/server.js'

/** A server that answers by path, and what it was asked. */
function serverOf(answers) {
  const asked = []
  const fetchApi = async (path, options = {}) => {
    const sent = options.body instanceof FormData ? options.body.get('file').name : options.body
    asked.push([path, sent === undefined ? null : options.body instanceof FormData ? sent : JSON.parse(sent)])
    const [status, answer] = answers(path, sent)
    return new Response(JSON.stringify(answer), { status })
  }
  return { changes: createChanges(createServer(fetchApi)), asked }
}

test('files are imported one by one, and a refused one does not stop the rest', async () => {
  const { changes, asked } = serverOf((_, file) =>
    file === 'broken.json' ? [400, { error: 'not valid JSON' }] : [200, { kind: 'schedule', name: file[0] }]
  )
  const files = ['a.json', 'broken.json', 'b.json'].map((name) => new File(['{}'], name))
  assert.deepEqual(await changes.importFiles(files), {
    done: [
      { file: 'a.json', kind: 'schedule', name: 'a' }, { file: 'b.json', kind: 'schedule', name: 'b' }
    ],
    failed: [{ file: 'broken.json', error: 'not valid JSON' }]
  })
  assert.deepEqual(asked.map(([, file]) => file), ['a.json', 'broken.json', 'b.json'])
})

test('what is unfinished is deleted by its folder, all else by its name', async () => {
  const { changes, asked } = serverOf(() => [200, {}])
  await changes.remove({ kind: 'job', name: 'Test 1', data: { folder: 'test-1-0123abcd' } })
  await changes.remove({ kind: 'calibration', name: 'Test 1', data: {} })
  assert.deepEqual(asked.map(([, body]) => body), [
    { kind: 'job', name: 'test-1-0123abcd' }, { kind: 'calibration', name: 'Test 1' }
  ])
})

test('a copy is what the server exports, sigmas and all', async () => {
  const schedule = { name: 'a/b', steps: 2, sigmas: [1, 0.5, 0] }
  const { changes, asked } = serverOf((path) => [200, path.includes('export') ? schedule : { name: 'mine' }])
  assert.deepEqual(await changes.copy({ kind: 'schedule', name: 'a/b' }, 'mine'), { name: 'mine' })
  assert.deepEqual(asked, [
    ['/lemica/export?kind=schedule&name=a%2Fb', null], ['/lemica/save', { schedule, name: 'mine' }]
  ])
})

test('a refusal is told in the words of the server', async () => {
  const { changes } = serverOf(() => [409, { error: 'The name is in use.' }])
  const refused = { message: 'The name is in use.', status: 409 }
  await assert.rejects(changes.rename({ kind: 'schedule', name: 'a' }, 'b'), refused)
})
