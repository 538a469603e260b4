/**
 * The plain OPT variant once more in float64, without any of the project's code, computing only the units it is told:
 * the judge of sparse forwards and of what is measured on them. Pre-norm, tied, without projections, as `plain` is.
 */
import type { Tensors, Variant } from "./random-checkpoint.ts";

type Vector = number[];
type Unit = "heads" | "neurons";

/** Says which units to compute; null means all. `worth` is each head's output norm, or each neuron's activation. */
export type Choose = (unit: Unit, layer: number, token: number, worth: Vector) => readonly number[] | null;

export interface SparseRun {
  readonly logits: Vector[]; // [tokens][vocab]
  /** What `choose` was shown: [layers][tokens][units]. */
  readonly worth: Readonly<Record<Unit, Vector[][]>>;
  /** What it chose, all units where it said null. */
  readonly chosen: Readonly<Record<Unit, (readonly number[])[][]>>;
  /** What q, k, v and what fc1 read: [layers][tokens][hidden]. */
  readonly inputs: { readonly attention: Vector[][]; readonly mlp: Vector[][] };
}

const dot = (a: Vector, b: Vector): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
const add = (a: Vector, b: Vector): Vector => a.map((value, i) => value + b[i]!);
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

export function float64SparseRun(
  tensors: Tensors,
  v: Variant,
  ids: readonly number[],
  choose: Choose,
): SparseRun {
  const row = (name: string, index: number): Vector => {
    const { shape, values } = tensors.get(name)!;
    return [...values.subarray(index * shape[1]!, (index + 1) * shape[1]!)];
  };
  const matrix = (name: string): Vector[] => range(tensors.get(name)!.shape[0]!).map((i) => row(name, i));
  const vector = (name: string): Vector => [...tensors.get(name)!.values];
  const linear = (name: string) => {
    const [weight, bias] = [matrix(`${name}.weight`), vector(`${name}.bias`)];
    return (x: Vector) => weight.map((w, o) => dot(w, x) + bias[o]!);
  };
  const norm = (name: string) => {
    const [weight, bias] = [vector(`${name}.weight`), vector(`${name}.bias`)];
    return (x: Vector) => {
      const mean = x.reduce((a, b) => a + b) / x.length;
      const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length;
      return x.map((value, i) => ((value - mean) / Math.sqrt(variance + 1e-5)) * weight[i]! + bias[i]!);
    };
  };
  const headDim = v.hidden_size / v.num_attention_heads;
  const run = {
    worth: { heads: [] as Vector[][], neurons: [] as Vector[][] },
    chosen: { heads: [] as (readonly number[])[][], neurons: [] as (readonly number[])[][] },
    inputs: { attention: [] as Vector[][], mlp: [] as Vector[][] },
  };
  const pick = (unit: Unit, layer: number, worths: Vector[]): (readonly number[])[] => {
    const chosen = worths.map((worth, token) => choose(unit, layer, token, worth) ?? range(worth.length));
    run.worth[unit].push(worths);
    run.chosen[unit].push(chosen);
    return chosen;
  };

  let xs = ids.map((id, position) =>
    add(
      row("model.decoder.embed_tokens.weight", id),
      row("model.decoder.embed_positions.weight", position + 2),
    ),
  );
  for (let l = 0; l < v.num_hidden_layers; l++) {
    const at = `model.decoder.layers.${l}`;
    const h = xs.map(norm(`${at}.self_attn_layer_norm`));
    run.inputs.attention.push(h);
    const [q, k, value] = ["q_proj", "k_proj", "v_proj"].map((p) =>
      h.map(linear(`${at}.self_attn.${p}`)),
    ) as [Vector[], Vector[], Vector[]];
    const headOutput = (t: number, head: number): Vector => {
      const part = (x: Vector) => x.slice(head * headDim, (head + 1) * headDim);
      const scores = k.slice(0, t + 1).map((key) => dot(part(q[t]!), part(key)) / Math.sqrt(headDim));
      const weights = scores.map((score) => Math.exp(score - Math.max(...scores)));
      const sum = weights.reduce((a, b) => a + b);
      return range(headDim).map((i) =>
        weights.reduce((acc, weight, s) => acc + (weight / sum) * part(value[s]!)[i]!, 0),
      );
    };
    const heads = xs.map((_, t) => range(v.num_attention_heads).map((head) => headOutput(t, head)));
    const chosenHeads = pick(
      "heads",
      l,
      heads.map((outputs) => outputs.map((out) => Math.sqrt(dot(out, out)))),
    );
    const project = linear(`${at}.self_attn.out_proj`);
    xs = xs.map((x, t) => {
      const kept = heads[t]!.flatMap((out, head) =>
        chosenHeads[t]!.includes(head) ? out : out.map(() => 0),
      );
      return add(x, project(kept));
    });
    const m = xs.map(norm(`${at}.final_layer_norm`));
    run.inputs.mlp.push(m);
    const activations = m.map((x) => linear(`${at}.fc1`)(x).map((a) => Math.max(0, a)));
    const chosenNeurons = pick("neurons", l, activations);
    const out = linear(`${at}.fc2`);
    xs = xs.map((x, t) => {
      const set = new Set(chosenNeurons[t]);
      return add(x, out(activations[t]!.map((a, i) => (set.has(i) ? a : 0))));
    });
  }
  const embedding = matrix("model.decoder.embed_tokens.weight");
  const logits = xs.map(norm("model.decoder.final_layer_norm")).map((x) => embedding.map((e) => dot(e, x)));
  return { logits, ...run };
}

/** The `k` largest, ties to the lower index, in ascending order. */
export function largest(worth: Vector, k: number): number[] {
  return range(worth.length)
    .sort((a, b) => worth[b]! - worth[a]! || a - b)
    .slice(0, k)
    .sort((a, b) => a - b);
}
