import assert from 'node:assert/strict'
import { test } from 'node:test'

import { isLinked, valueAt } from '../../web/links.js'
import { idleWord, modelName, samplerSteps } from '../../web/sampler.js'
import { samplingBehind } from '../../web/sampling.js'

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
    inputs: inputs.map(([name, type, widget]) => ({ name, type, ...(widget && { widget: { name } }) })),
    outputs: outputs.map(([name, type]) => ({ name, type })),
    widgets: Object.entries(widgets).map(([name, value]) => ({ name, value }))
  }))
  graph.getNodeById = (id) => graph.nodes.find((node) => node.id === id) ?? null
  graph.links = new Map(
    links.map(([origin_id, origin_slot, target_id, target_slot], id) => [
      id, { id, origin_id, origin_slot, target_id, target_slot }
    ])
  )
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

const ksampler = {
  ...sampler, widgets: { seed: 7, control_after_generate: 'fixed', steps: 30, scheduler: 'simple', denoise: 0.5 }
}
const shift = { id: 4, type: 'ModelSamplingSD3', inputs: [MODEL, ['shift', 'FLOAT', true]], outputs: [MODEL], widgets: { shift: 5 } }
const lora = { id: 8, type: 'LoraLoaderModelOnly', inputs: [MODEL], outputs: [MODEL], widgets: { strength: 1 } }
const behind = (graph) => samplingBehind(at(graph, 2), graph)

test('what settles the sigmas: shifts before and after the node, and the sampler without its seed', () => {
  const graph = graphOf(
    [loader, lora, shift, lemica, { ...shift, id: 5, widgets: { shift: 8 } }, ksampler],
    [[1, 0, 8, 0], [8, 0, 4, 0], [4, 0, 2, 0], [2, 0, 5, 0], [5, 0, 3, 0]]
  )
  const { sampling, several, nodes } = behind(graph)
  assert.deepEqual(sampling, {
    model: [
      { type: 'ModelSamplingSD3', inputs: { shift: 5 }, output: 0 }, { type: 'ModelSamplingSD3', inputs: { shift: 8 }, output: 0 }
    ],
    sigmas: [{ type: 'KSampler', inputs: { steps: 30, scheduler: 'simple', denoise: 0.5 }, output: 0 }]
  })
  assert.equal(several, false)
  assert.deepEqual([3, 4, 5].map((id) => nodes.includes(at(graph, id))), [true, true, true])
})

test('a bypassed shift does not count, a muted one leaves nothing known', () => {
  for (const [mode, model, sigmas] of [[0, 1, 1], [4, 0, 1], [2, 0, 0]]) {
    const graph = graphOf([loader, { ...shift, mode }, lemica, ksampler], [[1, 0, 4, 0], [4, 0, 2, 0], [2, 0, 3, 0]])
    const { sampling } = behind(graph)
    assert.deepEqual([sampling.model.length, sampling.sigmas.length], [model, sigmas])
  }
})

test('a value that is linked is known from a primitive, and not from a node that works it out', () => {
  for (const [type, value] of [['PrimitiveFloat', 3], ['PrimitiveNode', 3], ['SomeonesMath', null]]) {
    const number = { id: 6, type, outputs: [['FLOAT', 'FLOAT']], widgets: { value: 3 } }
    const graph = graphOf(
      [loader, shift, lemica, ksampler, number], [[1, 0, 4, 0], [4, 0, 2, 0], [2, 0, 3, 0], [6, 0, 4, 1]]
    )
    const { sampling, nodes } = behind(graph)
    assert.deepEqual(sampling.model[0].inputs, { shift: value })
    assert.ok(nodes.includes(at(graph, 6)), 'its value is watched')
  }
})

test('an input that is connected to more than values is told as not known', () => {
  const ltxv = { ...shift, type: 'ModelSamplingLTXV', inputs: [MODEL, ['latent', 'LATENT']], widgets: { max_shift: 2 } }
  const latent = { id: 6, type: 'EmptyLTXVLatentVideo', outputs: [['LATENT', 'LATENT']] }
  const links = [[1, 0, 4, 0], [4, 0, 2, 0], [2, 0, 3, 0]]
  const alone = graphOf([loader, ltxv, lemica, ksampler], links)
  assert.deepEqual(behind(alone).sampling.model[0].inputs, { max_shift: 2 })
  const linked = graphOf([loader, ltxv, lemica, ksampler, latent], [...links, [6, 0, 4, 1]])
  assert.deepEqual(behind(linked).sampling.model[0].inputs, { max_shift: 2, latent: null })
})

test('custom sampling: the scheduler, the nodes on its sigmas, and the model that the scheduler has', () => {
  const guider = { id: 4, type: 'BasicGuider', inputs: [MODEL], outputs: [['guider', 'GUIDER']] }
  const custom = { id: 5, type: 'SamplerCustomAdvanced', inputs: [['guider', 'GUIDER'], ['sigmas', 'SIGMAS']] }
  const scheduler = {
    id: 6, type: 'BasicScheduler', inputs: [MODEL], outputs: [['sigmas', 'SIGMAS']],
    widgets: { scheduler: 'beta', steps: 24, denoise: 1 }
  }
  const split = {
    id: 7, type: 'SplitSigmas', inputs: [['sigmas', 'SIGMAS']], outputs: [['high', 'SIGMAS'], ['low', 'SIGMAS']],
    widgets: { step: 9 }
  }
  const flux = { id: 9, type: 'ModelSamplingFlux', inputs: [MODEL], outputs: [MODEL], widgets: { max_shift: 1.15 } }
  const graph = graphOf(
    [loader, flux, lemica, guider, custom, scheduler, split],
    [[1, 0, 2, 0], [2, 0, 4, 0], [2, 0, 9, 0], [9, 0, 6, 0], [4, 0, 5, 0], [6, 0, 7, 0], [7, 1, 5, 1]]
  )
  assert.deepEqual(behind(graph).sampling, {
    model: [{ type: 'ModelSamplingFlux', inputs: { max_shift: 1.15 }, output: 0 }],
    sigmas: [
      { type: 'BasicScheduler', inputs: { scheduler: 'beta', steps: 24, denoise: 1 }, output: 0 },
      { type: 'SplitSigmas', inputs: { step: 9 }, output: 1 }
    ]
  })
  assert.equal(behind(graph).several, false, 'a scheduler that gets the model is no sampler')
})

test('without a loader, a sampler, or with a link from elsewhere nothing is known', () => {
  const nothing = { model: [], sigmas: [] }
  assert.deepEqual(behind(graphOf([loader, lemica], [[1, 0, 2, 0]])).sampling, nothing)
  assert.deepEqual(behind(graphOf([lemica, ksampler], [[2, 0, 3, 0]])).sampling, nothing)
  const elsewhere = { ...loader, type: 'GetNode', isVirtualNode: true }
  const graph = graphOf([elsewhere, lemica, ksampler], [[1, 0, 2, 0], [2, 0, 3, 0]])
  assert.deepEqual(behind(graph).sampling, nothing)
})

test('two samplers behind a node are told of', () => {
  const graph = graphOf([loader, lemica, ksampler, { ...ksampler, id: 6 }], [[1, 0, 2, 0], [2, 0, 3, 0], [2, 0, 6, 0]])
  assert.equal(behind(graph).several, true)
})

test('of two LeMiCa nodes in a row the last one counts, unless it is off, or a sampler comes between', () => {
  const second = { ...lemica, id: 4 }
  const links = [[1, 0, 2, 0], [2, 0, 4, 0], [4, 0, 3, 0]]
  const row = graphOf([loader, lemica, second, sampler], links)
  assert.deepEqual([idleWord(at(row, 2), row), idleWord(at(row, 4), row)], ['covered', ''])
  assert.equal(samplerSteps(at(row, 2), row), null)
  for (const mode of [2, 4]) {
    const off = graphOf([loader, lemica, { ...second, mode }, sampler], links)
    assert.equal(idleWord(at(off, 2), off), '')
    assert.equal(idleWord(at(off, 4), off), mode === 2 ? 'muted' : 'bypassed')
  }
  const between = graphOf([loader, lemica, second, sampler, { ...sampler, id: 5 }], [...links, [2, 0, 5, 0]])
  assert.equal(idleWord(at(between, 2), between), '')
})

test('a node in a subgraph that is off is off', () => {
  const subgraph = graphOf([lemica], [[-10, 0, 2, 0], [2, 0, -20, 0]])
  const outer = { id: 9, type: 'subgraph', subgraph, mode: 4, inputs: [MODEL], outputs: [MODEL] }
  const graph = graphOf([loader, outer, sampler], [[1, 0, 9, 0], [9, 0, 3, 0]], { subgraphs: new Map([['s', subgraph]]) })
  assert.equal(idleWord(at(subgraph, 2), graph), 'bypassed')
})

test('a reroute and a bypassed node are seen through, and a node without a graph has no links', () => {
  const reroute = { id: 6, type: 'Reroute', inputs: [['', '*']], outputs: [['', '*']] }
  const off = { ...lora, mode: 4 }
  const graph = graphOf(
    [loader, reroute, off, lemica, sampler], [[1, 0, 6, 0], [6, 0, 8, 0], [8, 0, 2, 0], [2, 0, 3, 0]]
  )
  assert.equal(modelName(at(graph, 2), graph), 'UNETLoader wan.safetensors')
  const alone = { ...at(graph, 2), graph: null }
  assert.deepEqual([modelName(alone, graph), samplerSteps(alone, graph), isLinked(alone, 'model')], ['', null, false])
})
