/**
 * OPT once more, in float64 and without any of the project's code: the judge of the variants for which there is no
 * golden file. Follows the order of operations of Hugging Face's OPTForCausalLM.
 */
import type { Tensors, Variant } from "./random-checkpoint.ts";

type Vector = number[];

export function float64Logits(tensors: Tensors, v: Variant, ids: readonly number[]): Vector[] {
  const get = (name: string): { shape: number[]; values: Float32Array } | undefined => tensors.get(name);
  const row = (name: string, index: number): Vector => {
    const { shape, values } = get(name)!;
    return [...values.subarray(index * shape[1]!, (index + 1) * shape[1]!)];
  };
  const linear = (x: Vector, name: string): Vector => {
    const { shape, values } = get(`${name}.weight`)!;
    const bias = get(`${name}.bias`)?.values;
    return Array.from({ length: shape[0]! }, (_, o) =>
      x.reduce((sum, value, i) => sum + value * values[o * shape[1]! + i]!, bias?.[o] ?? 0),
    );
  };
  const norm = (x: Vector, name: string): Vector => {
    const mean = x.reduce((a, b) => a + b) / x.length;
    const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length;
    const weight = get(`${name}.weight`)?.values;
    const bias = get(`${name}.bias`)?.values;
    return x.map(
      (value, i) => ((value - mean) / Math.sqrt(variance + 1e-5)) * (weight?.[i] ?? 1) + (bias?.[i] ?? 0),
    );
  };
  const add = (a: Vector, b: Vector): Vector => a.map((value, i) => value + b[i]!);
  const dot = (a: Vector, b: Vector): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

  const headDim = v.hidden_size / v.num_attention_heads;
  let xs = ids.map((id, position) => {
    const token = row("model.decoder.embed_tokens.weight", id);
    const projected =
      v.word_embed_proj_dim === v.hidden_size ? token : linear(token, "model.decoder.project_in");
    return add(projected, row("model.decoder.embed_positions.weight", position + 2));
  });
  for (let l = 0; l < v.num_hidden_layers; l++) {
    const at = `model.decoder.layers.${l}`;
    const inputs = v.do_layer_norm_before ? xs.map((x) => norm(x, `${at}.self_attn_layer_norm`)) : xs;
    const [q, k, value] = ["q_proj", "k_proj", "v_proj"].map((p) =>
      inputs.map((x) => linear(x, `${at}.self_attn.${p}`)),
    ) as [Vector[], Vector[], Vector[]];
    const attended = inputs.map((_, t) => {
      const out: Vector = [];
      for (let h = 0; h < v.num_attention_heads; h++) {
        const part = (x: Vector) => x.slice(h * headDim, (h + 1) * headDim);
        const scores = k.slice(0, t + 1).map((key) => dot(part(q[t]!), part(key)) / Math.sqrt(headDim));
        const max = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - max));
        const sum = weights.reduce((a, b) => a + b);
        for (let i = 0; i < headDim; i++)
          out.push(weights.reduce((acc, weight, s) => acc + (weight / sum) * part(value[s]!)[i]!, 0));
      }
      return linear(out, `${at}.self_attn.out_proj`);
    });
    xs = xs.map((x, t) => add(x, attended[t]!));
    if (!v.do_layer_norm_before) xs = xs.map((x) => norm(x, `${at}.self_attn_layer_norm`));
    xs = xs.map((x) => {
      const h = v.do_layer_norm_before ? norm(x, `${at}.final_layer_norm`) : x;
      const active = linear(h, `${at}.fc1`).map((a) => Math.max(0, a));
      const out = add(x, linear(active, `${at}.fc2`));
      return v.do_layer_norm_before ? out : norm(out, `${at}.final_layer_norm`);
    });
  }
  return xs.map((x) => {
    const normed =
      v.do_layer_norm_before && !v._remove_final_layer_norm ? norm(x, "model.decoder.final_layer_norm") : x;
    const out =
      v.word_embed_proj_dim === v.hidden_size ? normed : linear(normed, "model.decoder.project_out");
    const head = v.tie_word_embeddings ? "model.decoder.embed_tokens.weight" : "lm_head.weight";
    return Array.from({ length: v.vocab_size }, (_, id) => dot(out, row(head, id)));
  });
}
