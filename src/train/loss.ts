/**
 * Deja Vu's loss: binary cross-entropy per unit, weighted y·(1 − w) + w, where w is the share of positives in the batch
 * (FMInference/DejaVu, sparse_predictor: + 0.005 for neurons). Negatives are cheap where positives are rare, so
 * training leans towards recall.
 */

/**
 * Replaces logits by the gradient of the mean loss.
 * @param logits [rows · units]; overwritten with dLoss/dlogits
 * @param active same layout: 1 where the unit belongs to the true set
 * @param floor added to the share of positives
 * @returns the mean loss, in nats
 */
export function lossAndGradient(logits: Float32Array, active: Uint8Array, floor: number): number {
  let positives = 0;
  for (const mark of active) positives += mark;
  const negativeWeight = Math.min(1, positives / active.length + floor);
  const scale = 1 / logits.length;
  let loss = 0;
  for (let i = 0; i < logits.length; i++) {
    const x = logits[i]!;
    // With e = exp(−|x|): softplus(−|x|) = log1p(e), and sigmoid(x) follows from the same e without overflow.
    const e = Math.exp(-Math.abs(x));
    const sigmoid = x >= 0 ? 1 / (1 + e) : e / (1 + e);
    if (active[i] === 1) {
      loss += Math.log1p(e) + (x < 0 ? -x : 0);
      logits[i] = (sigmoid - 1) * scale;
    } else {
      loss += negativeWeight * (Math.log1p(e) + Math.max(x, 0));
      logits[i] = negativeWeight * sigmoid * scale;
    }
  }
  return loss * scale;
}
