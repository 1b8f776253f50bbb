/**
 * What settles the sigmas of the sampler behind a node, as POST /lemica/plan takes it. Changes nothing.
 * What is not known is told as it is: the server does not run a node that it does not know.
 */
import { MUTED, feederOf, isLinked, slotOfType, valueFor } from './links.js'
import { modelPath, samplersBehind } from './sampler.js'

/** @typedef {{ type: string, inputs: Record<string, any>, output: number }} NodeSetting a value is null if it is not known */

/** @typedef {{ model: NodeSetting[], sigmas: NodeSetting[] }} Sampling no sigmas where they are not known */

/** Nodes of the core, and ours, that take and give a model and leave its sampling alone. */
const NEUTRAL = new Set([
  'LeMiCa', 'APG', 'AnimaLLLiteApply', 'CFGNorm', 'CFGOverride', 'CFGZeroStar', 'ChromaRadianceOptions',
  'ContextWindowsManual', 'DifferentialDiffusion', 'EasyCache', 'Epsilon Scaling', 'FluxKVCache', 'FreSca', 'FreeU',
  'FreeU_V2', 'HiDreamO1PatchSeamSmoothing', 'HyperTile', 'HypernetworkLoader', 'LTXVContextWindows',
  'LTXVReferenceAudio', 'LatentApplyOperationCFG', 'LazyCache', 'LoraLoader', 'LoraLoaderBypass',
  'LoraLoaderBypassModelOnly', 'LoraLoaderModelOnly', 'LoraModelLoader', 'Mahiro', 'ModelComputeDtype',
  'ModelMergeAdd', 'ModelMergeBlocks', 'ModelMergeSimple', 'ModelMergeSubtract', 'MultiGPU_WorkUnits', 'NAGuidance',
  'PatchModelAddDownscale', 'PerpNeg', 'PerturbedAttentionGuidance', 'QwenImageDiffsynthControlnet', 'RenormCFG',
  'RescaleCFG', 'SUPIRApply', 'ScaleROPE', 'SelectModelDevice', 'SelfAttentionGuidance', 'SkipLayerGuidanceDiT',
  'SkipLayerGuidanceDiTSimple', 'SkipLayerGuidanceSD3', 'TCFG', 'TemporalScoreRescaling', 'TomePatchModel',
  'TorchCompileModel', 'UNetCrossAttentionMultiply', 'UNetSelfAttentionMultiply', 'UNetTemporalAttentionMultiply',
  'USOStyleReference', 'VideoLinearCFGGuidance', 'VideoTriangleCFGGuidance', 'WanContextWindowsManual',
  'WanInfiniteTalkToVideo', 'WanUni3CControlnetApply', 'ZImageFunControlnet', 'wanBlockSwap'
])

const OF_SAMPLERS = [
  'steps', 'sampler_name', 'scheduler', 'denoise', 'start_at_step', 'end_at_step', 'return_with_leftover_noise'
]
const FOLLOWED = ['MODEL', 'SIGMAS']

/** @type {Sampling} */
const UNKNOWN = { model: [], sigmas: [] }

/**
 * @param {any} start a LeMiCa node
 * @param {any} root the outermost graph
 * @returns {{ sampling: Sampling, several: boolean, nodes: any[] }} several: more than one sampler follows, the sampling is
 *   that of the nearest; nodes: those whose values it depends on
 */
export function samplingBehind(start, root) {
  const { samplers } = samplersBehind(start, root)
  const nodes = []
  const [sampler] = samplers
  const sampling = sampler ? samplingOf(sampler, root, nodes) : UNKNOWN
  return { sampling, several: samplers.length > 1, nodes }
}

function samplingOf(sampler, root, nodes) {
  const sigmas = sigmaPath(sampler, root)
  const [source] = sigmas
  const model = modelPath(source.node, root)
  const loader = model.at(-1)
  const isMuted = [...model, ...sigmas.map(({ node }) => node)].some(({ mode }) => mode === MUTED)
  // a node that only the page has fetches its link from elsewhere
  const isLoader = loader && !loader.isVirtualNode && !takesModel(loader)
  if (isMuted || (takesModel(source.node) && !isLoader)) return UNKNOWN
  const path = model.slice(0, -1).filter(({ type }) => !NEUTRAL.has(type)).reverse()
  return {
    model: path.map((node) => settingOf(node, 0, root, nodes)),
    sigmas: sigmas.map(({ node, slot }) => settingOf(node, slot, root, nodes, node === sampler ? OF_SAMPLERS : undefined))
  }
}

const takesModel = (node) => slotOfType(node, 'MODEL') >= 0

/** The sampler itself, or the scheduler of custom sampling and the nodes on its sigmas. */
function sigmaPath(sampler, root) {
  const path = []
  for (let at = sampler; at; ) {
    const feeder = feederOf(at, slotOfType(at, 'SIGMAS'), root)
    at = feeder && !feeder.input && !path.some(({ node }) => node === feeder.node) ? feeder.node : null
    if (at) path.unshift(feeder)
  }
  return path.length ? path : [{ node: sampler, slot: 0 }]
}

/** @returns {NodeSetting} */
function settingOf(node, output, root, nodes, only) {
  const names = (node.widgets ?? []).map(({ name }) => name).filter((name) => !only || only.includes(name))
  const held = names.map((name) => [name, valueFor(node, name, root)])
  const linked = (node.inputs ?? [])
    .filter((input) => !input.widget && !FOLLOWED.includes(input.type) && !only && isLinked(node, input.name))
    .map(({ name }) => [name, null])
  nodes.push(node, ...held.map(([, { node: holder }]) => holder))
  const values = held.map(([name, { value }]) => [name, plain(value)])
  return { type: node.type, inputs: Object.fromEntries([...values, ...linked]), output }
}

const plain = (value) =>
  ['number', 'boolean'].includes(typeof value) || (typeof value === 'string' && value.length <= 200) ? value : null

/**
 * Whether every value is known that settles the sigmas: if none changes, they stay as they are.
 * @param {Sampling} sampling
 */
export const isSettled = ({ model, sigmas }) =>
  sigmas.length > 0 &&
  [...model, ...sigmas].every(({ inputs }) => Object.values(inputs).every((value) => value !== null))
