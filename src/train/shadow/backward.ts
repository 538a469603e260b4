/**
 * The gradient of the next-token loss with respect to what each neuron and each head puts out, for a whole document.
 * Written for pre-norm OPT: a forward that keeps what the way back needs, then the way back. Nothing is trained by it.
 */
import { positionOffset } from "../../models/opt-weights.ts";
import { type Attention, attentionBackward, attentionForward, type Projections } from "./attention.ts";
import type { Checkpoint, CheckpointBlock } from "./checkpoint.ts";
import { normBackward, normForward } from "./norm.ts";
import type { Products } from "./products.ts";

/** Of one layer; each [ids, width]. Gradients are of the loss summed over all ids but the last, which has no next one. */
export interface LayerGradients {
  readonly activation: Float32Array; // neurons after the ReLU: width ffn_dim
  readonly activationGradient: Float32Array;
  readonly context: Float32Array; // heads' outputs before the output projection: width hidden_size
  readonly contextGradient: Float32Array;
}

export interface Gradients {
  readonly loss: number;
  readonly layers: readonly LayerGradients[];
  /** Of the first block's input [ids, hidden_size]. */
  readonly embedding: Float32Array;
}

/** What a block's forward leaves for its way back. */
interface Trace {
  readonly input: Float32Array; // the residual before attention
  readonly middle: Float32Array; // and before the MLP
  readonly projections: Projections;
  readonly attention: Attention;
  readonly activation: Float32Array;
}

const plus = (a: Float32Array, ...more: Float32Array[]): Float32Array =>
  a.map((value, i) => more.reduce((sum, b) => sum + b[i]!, value));

/** @param breathe awaited after each block on both ways; throws to stop */
export async function gradients(
  checkpoint: Checkpoint,
  products: Products,
  ids: Int32Array,
  breathe: () => Promise<void> | undefined = () => undefined,
): Promise<Gradients> {
  const { hiddenSize: d, heads, finalNorm, blocks } = checkpoint;
  const rows = ids.length;
  let x = embed(checkpoint, ids);
  const traces: Trace[] = [];
  for (const block of blocks) {
    const { trace, output } = await blockForward(block, products, x, rows, d, heads);
    traces.push(trace);
    x = output;
    await breathe();
  }
  const final = finalNorm ? normForward(x, d, finalNorm) : x;
  const logits = await products.forward(final, rows, checkpoint.logits);
  const loss = lossGradient(logits, ids, checkpoint.vocabSize);
  let gradient = await products.backward(logits, rows, checkpoint.logits);
  if (finalNorm) gradient = normBackward(gradient, x, d, finalNorm);
  const layers: LayerGradients[] = [];
  for (let l = blocks.length - 1; l >= 0; l--) {
    const back = await blockBackward(blocks[l]!, products, traces[l]!, gradient, d, heads);
    layers.unshift(back.layer);
    gradient = back.gradient;
    await breathe();
  }
  return { loss, layers, embedding: gradient };
}

function embed({ tokens, positions, hiddenSize: d }: Checkpoint, ids: Int32Array): Float32Array {
  const x = new Float32Array(ids.length * d);
  for (const [t, id] of ids.entries())
    for (let i = 0; i < d; i++) x[t * d + i] = tokens[id * d + i]! + positions[(t + positionOffset) * d + i]!;
  return x;
}

async function blockForward(
  block: CheckpointBlock,
  products: Products,
  input: Float32Array,
  rows: number,
  d: number,
  heads: number,
): Promise<{ trace: Trace; output: Float32Array }> {
  const h = normForward(input, d, block.attentionNorm);
  const projections = {
    query: await products.forward(h, rows, block.query),
    key: await products.forward(h, rows, block.key),
    value: await products.forward(h, rows, block.value),
  };
  const attention = attentionForward(projections, rows, heads);
  const middle = plus(input, await products.forward(attention.context, rows, block.output));
  const m = normForward(middle, d, block.mlpNorm);
  const activation = await products.forward(m, rows, block.fc1, "relu");
  const output = plus(middle, await products.forward(activation, rows, block.fc2));
  return { trace: { input, middle, projections, attention, activation }, output };
}

/** @param gradient of the block's output */
async function blockBackward(
  block: CheckpointBlock,
  products: Products,
  { input, middle, projections, attention, activation }: Trace,
  gradient: Float32Array,
  d: number,
  heads: number,
): Promise<{ layer: LayerGradients; gradient: Float32Array }> {
  const rows = input.length / d;
  const activationGradient = await products.backward(gradient, rows, block.fc2);
  const beforeRelu = activationGradient.map((value, i) => (activation[i]! > 0 ? value : 0));
  const intoMlp = await products.backward(beforeRelu, rows, block.fc1);
  const atMiddle = plus(gradient, normBackward(intoMlp, middle, d, block.mlpNorm));
  const contextGradient = await products.backward(atMiddle, rows, block.output);
  const back = attentionBackward(contextGradient, projections, attention.probabilities, rows, heads);
  const intoAttention = plus(
    await products.backward(back.query, rows, block.query),
    await products.backward(back.key, rows, block.key),
    await products.backward(back.value, rows, block.value),
  );
  return {
    layer: { activation, activationGradient, context: attention.context, contextGradient },
    gradient: plus(atMiddle, normBackward(intoAttention, input, d, block.attentionNorm)),
  };
}

/** Replaces logits by the loss's gradient and returns the loss: −Σ log p(next id). The last row has no next id. */
function lossGradient(logits: Float32Array, ids: Int32Array, vocab: number): number {
  let loss = 0;
  for (let t = 0; t < ids.length; t++) {
    const row = logits.subarray(t * vocab, (t + 1) * vocab);
    const next = ids[t + 1];
    if (next === undefined) {
      row.fill(0);
      continue;
    }
    let largest = Number.NEGATIVE_INFINITY;
    for (const value of row) largest = Math.max(largest, value);
    let sum = 0;
    for (const value of row) sum += Math.exp(value - largest);
    loss -= row[next]! - largest - Math.log(sum);
    for (let i = 0; i < vocab; i++) row[i] = Math.exp(row[i]! - largest) / sum;
    row[next]! -= 1;
  }
  return loss;
}
