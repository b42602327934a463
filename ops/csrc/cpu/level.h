// Which instruction set the kernels in *_levels.cpp run with, chosen once per process.
#pragma once

#include <cstdlib>
#include <string>

#include "../arguments.h"

namespace maskray {

enum class CpuLevel { baseline, avx2, avx512 };

// The best level of this machine, or a lower one that MASKRAY_CPU_LEVEL names (all give the same bits).
inline CpuLevel cpu_level() {
  static const CpuLevel level = [] {
    CpuLevel best = CpuLevel::baseline;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      best = CpuLevel::avx2;
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        best = CpuLevel::avx512;
      }
    }
#endif
    const char* variable = std::getenv("MASKRAY_CPU_LEVEL");
    const std::string name = variable == nullptr ? "" : variable;
    check(
        name.empty() || name == "baseline" || name == "avx2" || name == "avx512",
        "MASKRAY_CPU_LEVEL: expected baseline, avx2 or avx512");
    if (name == "baseline") {
      return CpuLevel::baseline;
    }
    return name == "avx2" && best == CpuLevel::avx512 ? CpuLevel::avx2 : best;
  }();
  return level;
}

}  // namespace maskray

// Defines `function()` as the same function of the namespace of the chosen level.
#if defined(__x86_64__)
#define MASKRAY_CHOOSE_LEVEL(function)            \
  (cpu_level() == CpuLevel::avx512 ? avx512::function() \
   : cpu_level() == CpuLevel::avx2 ? avx2::function()   \
                                   : baseline::function())
#else
#define MASKRAY_CHOOSE_LEVEL(function) (baseline::function())
#endif
