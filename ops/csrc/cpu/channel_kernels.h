// The inner loops of RoI pooling over channels that lie side by side in memory (NHWC), one set per instruction set.
#pragma once

#include <cstdint>

namespace maskray {

// One axis of one RoI: bin p is made of the entries begin[p] .. begin[p + 1] - 1, each a cell and its weight.
template <class T>
struct TapView {
  const int32_t* begin;
  const int32_t* cell;
  const T* weight;
  int64_t pooled;
};

template <class T>
struct ChannelKernels {
  // destination[c][r] = source[r][c] for a rows x columns matrix.
  void (*transpose)(
      const T* source, int64_t source_stride, int64_t rows, int64_t columns, T* destination,
      int64_t destination_stride);
  // bins[p][q][c] = sum over taps of weight * base[row][column][c], divided by count.
  void (*pool_mean)(
      const T* base, int64_t row_stride, int64_t channels, TapView<T> rows, TapView<T> columns, T count, T* bins);
  // The transpose of pool_mean: adds weight * bins[p][q][c] / count to base[row][column][c], the cells of a row lying
  // cell_stride apart.
  void (*scatter_mean)(
      T* base, int64_t row_stride, int64_t cell_stride, int64_t channels, TapView<T> rows, TapView<T> columns, T count,
      const T* bins);
  // Greatest sample of each bin and its index among the bin's samples (-1: one outside the map, which is 0, or none).
  // Taps come in pairs, two per sample; `outside[p]` says that bin p of the axis has samples outside.
  void (*pool_max)(
      const T* base, int64_t row_stride, int64_t channels, TapView<T> rows, TapView<T> columns,
      const uint8_t* rows_outside, const uint8_t* columns_outside, T* bins, int32_t* argmax);
};

#define MASKRAY_DECLARE_CHANNEL_KERNELS(isa)      \
  namespace isa {                                 \
  const ChannelKernels<float>& float_kernels();   \
  const ChannelKernels<double>& double_kernels(); \
  }
MASKRAY_DECLARE_CHANNEL_KERNELS(baseline)
#if defined(__x86_64__)
MASKRAY_DECLARE_CHANNEL_KERNELS(avx2)
MASKRAY_DECLARE_CHANNEL_KERNELS(avx512)
#endif
#undef MASKRAY_DECLARE_CHANNEL_KERNELS

}  // namespace maskray
