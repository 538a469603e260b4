#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace dejavu {
namespace {

const Table* usable[5];

#if defined(__x86_64__)
/** Not every compiler knows "f16c" by name, so it is asked of the processor. */
bool hasF16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 29));
}
#endif

bool fill() {
  const Table** next = usable;
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && hasF16c();
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16"))
    *next++ = &avx512vnniTable;
  if (avx512) *next++ = &avx512Table;
  if (avx2) *next++ = &avx2Table;
#elif defined(__aarch64__)
  *next++ = &neonTable;
#endif
  *next++ = &portableTable;
  return true;
}

}  // namespace

const Table* const* usableTables() {
  static const bool filled = fill();  // a static's first use is safe from several threads
  (void)filled;
  return usable;
}

}  // namespace dejavu
