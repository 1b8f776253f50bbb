import assert from 'node:assert/strict'
import { test } from 'node:test'

import { CUSTOM, chosenSteps, createPlanner, knownFrom, planAsker, planRequest } from '../../web/plan.js'
import { Refusal } from '../../web/server.js'

const settings = { preset: 'medium', budget: 15, schedule: 'auto', rule: 'as scheduled', chosen: '0,2,4' }
const custom = { ...settings, preset: CUSTOM }

const sampling = { model: [], sigmas: [{ type: 'KSampler', inputs: { steps: 4 }, output: 0 }] }

test('a request has the settings, the steps, what settles the sigmas, and what is known of the model', () => {
  const known = {
    family: 'wan', steps: 4, sigmas: [1, 0.8, 0.5, 0.2, 0], sampling: JSON.stringify(sampling), model: 'x'
  }
  assert.deepEqual(planRequest(settings, 4, known, sampling), {
    family: 'wan', steps: 4, sampling, sigmas: known.sigmas, preset: 'medium', budget: 15, schedule: 'auto',
    rule: 'as scheduled', learn: 'off'
  })
  assert.equal(planRequest({ ...settings, learn: 'on' }, 4, known, sampling).learn, 'on')
  const unknown = planRequest(settings, 4, null, sampling)
  assert.deepEqual([unknown.family, unknown.sigmas], [null, null])
})

test('the sigmas of the last run are no longer known once something changes that led to them', () => {
  const known = { family: 'wan', steps: 2, sigmas: [1, 0.5, 0], sampling: JSON.stringify(sampling), model: 'x' }
  assert.equal(planRequest(settings, 4, known, sampling).steps, 2, 'on their way to the sampler they were cut')
  const other = structuredClone(sampling)
  other.sigmas[0].inputs.denoise = 0.5
  const request = planRequest(settings, 4, known, other)
  assert.deepEqual([request.steps, request.sigmas], [4, null])
  assert.equal(planRequest(settings, 4, { ...known, sampling: undefined }, sampling).sigmas, null)
})

test('steps chosen by hand are the budget, for the preset custom alone', () => {
  assert.deepEqual(chosenSteps(custom, 6).computed, [0, 2, 4])
  assert.deepEqual(chosenSteps(settings, 6).computed, [])
  assert.equal(planRequest(custom, 6, null, sampling).budget, 3)
  assert.equal(planRequest({ ...custom, learn: 'on' }, 6, null, sampling).learn, 'off', 'no run of these is learned from')
  assert.equal(planRequest(custom, 3, null, sampling).budget, 15)
})

test('what is kept of a run is small', () => {
  const event = { family: 'wan', steps: 2, sigmas: [1, 0.123456789, 0], rules: ['output hold'] }
  assert.deepEqual(knownFrom(event, 'm', sampling), {
    family: 'wan', steps: 2, model: 'm', sigmas: [1, 0.123457, 0], sampling: JSON.stringify(sampling)
  })
  const less = { family: 'wan', steps: 2, model: 'm' }
  assert.deepEqual(knownFrom({ ...event, sigmas: null }, 'm', sampling), less)
  assert.deepEqual(knownFrom({ ...event, sigmas: Array(500).fill(1) }, 'm', sampling), less)
})

test('sigmas are not kept of a run that may have been another one, or depends on what only the run works out', () => {
  const event = { family: 'wan', steps: 2, sigmas: [1, 0.5, 0] }
  const open = { model: [{ type: 'ModelSamplingLTXV', inputs: { latent: null }, output: 0 }], sigmas: sampling.sigmas }
  for (const unsettled of [null, open, { model: [], sigmas: [] }])
    assert.deepEqual(knownFrom(event, 'm', unsettled), { family: 'wan', steps: 2, model: 'm' })
})

/** A server that answers when told. */
function slowly() {
  const waiting = []
  const ask = (request) =>
    new Promise((resolve, reject) => waiting.push({ request, resolve, reject }))
  return { ask, waiting }
}

const soon = () => new Promise((resolve) => setTimeout(resolve))

test('of many requests the first is asked at once, then the last; the overtaken answer is not shown', async () => {
  const { ask, waiting } = slowly()
  const told = []
  const planner = createPlanner(ask, (...shown) => told.push(shown))
  for (const budget of [1, 2, 3]) planner.request({ budget })
  assert.deepEqual(waiting.map(({ request }) => request.budget), [1])
  waiting[0].resolve('one')
  await soon()
  assert.deepEqual(told, [])
  assert.deepEqual(waiting.map(({ request }) => request.budget), [1, 3])
  waiting[1].resolve('three')
  await soon()
  assert.deepEqual(told, [['three', '']])
})

test('the same question is asked once, until it is forgotten', async () => {
  const { ask, waiting } = slowly()
  const planner = createPlanner(ask, () => {})
  planner.request({ budget: 1 })
  waiting[0].resolve('one')
  await soon()
  planner.request({ budget: 1 })
  assert.equal(waiting.length, 1)
  planner.forget()
  planner.request({ budget: 1 })
  assert.equal(waiting.length, 2)
})

test('a refusal is shown in the words of the server', async () => {
  const { ask, waiting } = slowly()
  const told = []
  createPlanner(ask, (...shown) => told.push(shown)).request({ budget: 99 })
  waiting[0].reject(new Refusal('The budget is 99.', 400))
  await soon()
  assert.deepEqual(told, [[null, 'The budget is 99.']])
})

test('a planner that was closed shows nothing that is under way, and asks anew when it is used again', async () => {
  const { ask, waiting } = slowly()
  const told = []
  const planner = createPlanner(ask, (...shown) => told.push(shown))
  planner.request({ budget: 1 })
  planner.close()
  waiting[0].resolve('one')
  await soon()
  assert.deepEqual(told, [])
  planner.request({ budget: 1 })
  waiting[1].resolve('one')
  await soon()
  assert.deepEqual(told, [['one', '']])
})

test('a family that the server does not know is planned as an unknown model', async () => {
  const asked = []
  const ask = planAsker(async (request) => {
    asked.push(request.family)
    if (request.family === 'gone') throw new Refusal('no family', 404)
    if (request.family === 'bad') throw new Refusal('bad', 400)
    return request.family
  })
  assert.equal(await ask({ family: 'gone' }), null)
  assert.deepEqual(asked, ['gone', null])
  assert.equal(await ask({ family: 'wan' }), 'wan')
  await assert.rejects(ask({ family: 'bad' }), /bad/)
})
