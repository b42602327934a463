// How functions are marked that the CPU and the CUDA kernels share.
#pragma once

#ifdef __CUDACC__
#define MASKRAY_HOST_DEVICE __host__ __device__ __forceinline__
#define MASKRAY_HOST_DEVICE_INLINED MASKRAY_HOST_DEVICE
#else
#define MASKRAY_HOST_DEVICE inline
// For what *_isa.cpp call: of a copy that is not inlined the linker keeps one, maybe for a set that the machine lacks.
#define MASKRAY_HOST_DEVICE_INLINED [[gnu::always_inline]] inline
#endif
