import assert from 'node:assert/strict'
import { test } from 'node:test'

import { isLinked, modelName, samplerSteps, valueAt } from '../../web/sampler.js'

/**
 * A graph as LiteGraph has it.
 * @param {object[]} nodes with `inputs` and `outputs` as [name, type] pairs and `widgets` as an object
 * @param {[number, number, number, number][]} links origin, slot, target, slot
 */
function graphOf(nodes, links, more = {}) {
  const graph = { ...more, subgraphs: more.subgraphs ?? new Map() }
  graph.nodes = nodes.map(({ inputs = [], outputs = [], widgets = {}, ...node }) => ({
    mode: 0,
    ...node,
    graph,
    inputs: inputs.map(([name, type, widget]) => ({ name, type, link: null, ...(widget && { widget: { name } }) })),
    outputs: outputs.map(([name, type]) => ({ name, type, links: [] })),
    widgets: Object.entries(widgets).map(([name, value]) => ({ name, value }))
  }))
  graph.getNodeById = (id) => graph.nodes.find((node) => node.id === id) ?? null
  const kept = new Map()
  links.forEach(([origin_id, origin_slot, target_id, target_slot], id) => {
    kept.set(id, { id, origin_id, origin_slot, target_id, target_slot })
    const from = graph.getNodeById(origin_id)
    if (from) from.outputs[origin_slot].links.push(id)
    const to = graph.getNodeById(target_id)
    if (to) to.inputs[target_slot].link = id
  })
  graph.getLink = (id) => kept.get(id)
  return graph
}

const MODEL = ['model', 'MODEL']
const loader = {
  id: 1, type: 'UNETLoader', outputs: [MODEL], widgets: { unet_name: 'wan.safetensors', dtype: 'default' }
}
const lemica = { id: 2, type: 'LeMiCa', inputs: [MODEL], outputs: [MODEL], widgets: { preset: 'medium', budget: 15 } }
const sampler = { id: 3, type: 'KSampler', inputs: [MODEL, ['steps', 'INT', true]], widgets: { seed: 7, steps: 30 } }
const at = (graph, id) => graph.getNodeById(id)

test('the steps of the sampler behind the node, and the model before it', () => {
  const graph = graphOf([loader, lemica, sampler], [[1, 0, 2, 0], [2, 0, 3, 0]])
  assert.equal(samplerSteps(at(graph, 2), graph), 30)
  assert.equal(modelName(at(graph, 2), graph), 'UNETLoader wan.safetensors')
})

test('without a sampler or a model there is nothing to tell', () => {
  const graph = graphOf([lemica], [])
  assert.equal(samplerSteps(at(graph, 2), graph), null)
  assert.equal(modelName(at(graph, 2), graph), '')
})

test('a sampler behind other patches, and a part of a run', () => {
  const shift = { id: 4, type: 'ModelSamplingSD3', inputs: [MODEL], outputs: [MODEL], widgets: { shift: 5 } }
  const part = { ...sampler, widgets: { steps: 30, start_at_step: 10, end_at_step: 10000 } }
  const graph = graphOf([loader, lemica, shift, part], [[1, 0, 2, 0], [2, 0, 4, 0], [4, 0, 3, 0]])
  assert.equal(samplerSteps(at(graph, 2), graph), 20)
})

test('a muted or bypassed sampler does not count', () => {
  const off = { ...sampler, id: 4, mode: 4, widgets: { steps: 99 } }
  const graph = graphOf([lemica, off, sampler], [[2, 0, 4, 0], [2, 0, 3, 0]])
  assert.equal(samplerSteps(at(graph, 2), graph), 30)
})

test('custom sampling: the steps of the scheduler, through a node on its sigmas', () => {
  const guider = { id: 4, type: 'BasicGuider', inputs: [MODEL], outputs: [['guider', 'GUIDER']] }
  const custom = { id: 5, type: 'SamplerCustomAdvanced', inputs: [['guider', 'GUIDER'], ['sigmas', 'SIGMAS']] }
  const scheduler = { id: 6, type: 'BasicScheduler', outputs: [['sigmas', 'SIGMAS']], widgets: { steps: 24 } }
  const flip = { id: 7, type: 'FlipSigmas', inputs: [['sigmas', 'SIGMAS']], outputs: [['sigmas', 'SIGMAS']] }
  const graph = graphOf(
    [lemica, guider, custom, scheduler, flip], [[2, 0, 4, 0], [4, 0, 5, 0], [6, 0, 7, 0], [7, 0, 5, 1]]
  )
  assert.equal(samplerSteps(at(graph, 2), graph), 24)
})

test('a value that is linked is read where it comes from', () => {
  const number = { id: 4, type: 'PrimitiveInt', outputs: [['INT', 'INT']], widgets: { value: 12 } }
  const graph = graphOf([lemica, sampler, number], [[2, 0, 3, 0], [4, 0, 3, 1]])
  assert.equal(samplerSteps(at(graph, 2), graph), 12)
  assert.equal(isLinked(at(graph, 3), 'steps'), true)
  assert.equal(isLinked(at(graph, 2), 'budget'), false)
  assert.equal(valueAt(at(graph, 2), 'preset', graph), 'medium')
})

test('in a subgraph: loader, sampler and a shown widget are outside', () => {
  const inner = { ...lemica, inputs: [MODEL, ['preset', 'COMBO', true]] }
  const subgraph = graphOf([inner], [[-10, 0, 2, 0], [2, 0, -20, 0], [-10, 1, 2, 1]])
  subgraph.inputs = [{ linkIds: [0] }, { linkIds: [2] }]
  subgraph.outputs = [{ linkIds: [1] }]
  const outer = {
    id: 9, type: 'subgraph', subgraph, inputs: [MODEL, ['preset', 'COMBO', true]], outputs: [MODEL],
    widgets: { preset: 'ultra' }
  }
  const graph = graphOf(
    [loader, outer, sampler], [[1, 0, 9, 0], [9, 0, 3, 0]], { subgraphs: new Map([['s', subgraph]]) }
  )
  const node = at(subgraph, 2)
  assert.equal(samplerSteps(node, graph), 30)
  assert.equal(modelName(node, graph), 'UNETLoader wan.safetensors')
  assert.equal(valueAt(node, 'preset', graph), 'ultra')
})

test('links in a ring end', () => {
  const ring = { id: 4, type: 'Patch', inputs: [MODEL], outputs: [MODEL] }
  const graph = graphOf([{ ...lemica }, ring], [[2, 0, 4, 0], [4, 0, 2, 0]])
  assert.equal(samplerSteps(at(graph, 2), graph), null)
  assert.equal(modelName(at(graph, 2), graph), 'LeMiCa')
})
