#include "cpu.h"

#include "../kernels/gemm-job.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace dejavu {
namespace {

const Table* usable[6];

#if defined(__x86_64__)
/** Not every compiler knows these by name, so the processor is asked: a bit of eax … edx (0 … 3) of a leaf. */
bool hasBit(unsigned leaf, unsigned subleaf, int number, int bit) {
  unsigned r[4];
  return __get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[number] & (1u << bit));
}

bool hasF16c() { return hasBit(1, 0, 2, 29); }

/** AMX with bfloat16. The system must grant the process the registers' state first; asking again is harmless. */
bool hasAmx() {
#if defined(__linux__)
  constexpr int requestPermission = 0x1023, tileData = 18;
  return hasBit(7, 0, 3, 22) && hasBit(7, 0, 3, 24) && syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
#else
  return false;
#endif
}

/** `base` with a unit for products of many rows. */
const Table* withGemm(Table& table, const Table& base, const char* name, const Gemm& gemm) {
  table = base;
  table.name = name;
  table.gemm = &gemm;
  return &table;
}

Table amxTable, bf16Table;
#endif

bool fill() {
  const Table** next = usable;
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && hasF16c();
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) {
    if (hasAmx()) *next++ = withGemm(amxTable, avx512vnniSecondTable, "amx", amxGemm);
    // Of Intel's processors these instructions take so long that integers, and float32, are faster.
    *next++ = __builtin_cpu_is("intel") ? &avx512vnniTable
                                        : withGemm(bf16Table, avx512vnniTable, avx512vnniTable.name, avx512bf16Gemm);
  }
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
