/** exp, and the softmax passes made of it. */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** e^x within about 2 ulp; 0 below -88, NaN for NaN. x must not exceed 88, which softmax sees to by subtracting the maximum. */
inline F exponential(F x) {
  x = V::max(V::broadcast(-88.0f), x);
  x = V::min(V::broadcast(88.0f), x);
  F shifter = V::broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  F shifted = V::fma(x, V::broadcast(1.44269504f), shifter);
  F n = V::sub(shifted, shifter);
  F r = V::fma(n, V::broadcast(-0.693145752f), x);  // ln 2 in two parts: the first has 16 bits, so n times it is exact
  r = V::fma(n, V::broadcast(-1.42860677e-6f), r);
  F p = V::broadcast(1.0f / 5040);
  p = V::fma(p, r, V::broadcast(1.0f / 720));
  p = V::fma(p, r, V::broadcast(1.0f / 120));
  p = V::fma(p, r, V::broadcast(1.0f / 24));
  p = V::fma(p, r, V::broadcast(1.0f / 6));
  p = V::fma(p, r, V::broadcast(0.5f));
  p = V::fma(p, r, V::broadcast(1.0f));
  p = V::fma(p, r, V::broadcast(1.0f));
  return V::mul(p, V::pow2(shifted));
}

/** The largest of n values, NaN passed over; -infinity if there is none. */
inline float maximum(const float* x, int64_t n) {
  F low = V::broadcast(-__builtin_inff());
  F best = low;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) best = V::max(V::load(x + i), best);
  float result = largest(best);
  for (; i < n; i++) result = x[i] > result ? x[i] : result;
  return result;
}

/** out[i] = e^(x[i] - shift) where out is not null; returns their sum. */
inline float exponentials(float* out, const float* x, int64_t n, float shift) {
  F minus = V::broadcast(shift), total = V::zero();
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    F e = exponential(V::sub(V::load(x + i), minus));
    if (out) V::store(out + i, e);
    total = V::add(total, e);
  }
  float sum = V::sum(total);
  if (int rest = (int)(n - i)) {
    float lane[lanes];
    F e = exponential(V::sub(V::loadTail(x + i, rest), minus));
    V::store(lane, e);
    for (int j = 0; j < rest; j++) {
      if (out) out[i + j] = lane[j];
      sum += lane[j];
    }
  }
  return sum;
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
