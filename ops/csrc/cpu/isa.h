// Which instruction set the kernels in *_isa.cpp run with, chosen once per process.
#pragma once

#include <cstdlib>
#include <string>

#include "../arguments.h"

namespace maskray {

enum class CpuIsa { baseline, avx2, avx512 };

// The best one of this machine, or a lesser one that MASKRAY_CPU_ISA names (all give the same bits).
inline CpuIsa cpu_isa() {
  static const CpuIsa isa = [] {
    CpuIsa best = CpuIsa::baseline;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      best = CpuIsa::avx2;
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        best = CpuIsa::avx512;
      }
    }
#endif
    const char* variable = std::getenv("MASKRAY_CPU_ISA");
    const std::string name = variable == nullptr ? "" : variable;
    check(
        name.empty() || name == "baseline" || name == "avx2" || name == "avx512",
        "MASKRAY_CPU_ISA: expected baseline, avx2 or avx512");
    if (name == "baseline") {
      return CpuIsa::baseline;
    }
    return name == "avx2" && best == CpuIsa::avx512 ? CpuIsa::avx2 : best;
  }();
  return isa;
}

}  // namespace maskray

// Defines `function()` as the same function of the namespace of the chosen instruction set.
#if defined(__x86_64__)
#define MASKRAY_CHOOSE_ISA(function)                    \
  (cpu_isa() == CpuIsa::avx512     ? avx512::function() \
       : cpu_isa() == CpuIsa::avx2 ? avx2::function()   \
                                   : baseline::function())
#else
#define MASKRAY_CHOOSE_ISA(function) (baseline::function())
#endif
