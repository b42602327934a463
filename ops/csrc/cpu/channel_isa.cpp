// The loops of channel_kernels.h, compiled once per instruction set into namespace MASKRAY_ISA.
//
// No container of the standard library here: its code would be compiled for one instruction set and, being a duplicate
// that the linker merges, run on a machine that lacks it.
#include "channel_kernels.h"

#include <cstddef>
#include <utility>

namespace maskray::MASKRAY_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kPackBytes = 64;
#elif defined(__AVX2__)
constexpr int kPackBytes = 32;
#else
constexpr int kPackBytes = 16;
#endif

// A register of T; may lie at any address that a T may.
template <class T>
struct Vector {
  typedef T Pack __attribute__((vector_size(kPackBytes), aligned(alignof(T)), may_alias));
  static constexpr int lanes = kPackBytes / sizeof(T);
};
template <class T>
using Pack = typename Vector<T>::Pack;

template <class T>
Pack<T>& pack_at(T* address) {
  return *reinterpret_cast<Pack<T>*>(address);
}
template <class T>
const Pack<T>& pack_at(const T* address) {
  return *reinterpret_cast<const Pack<T>*>(address);
}

// One stage of a butterfly: exchanges the blocks of Distance lanes that lie off the diagonal of a and b.
template <class T, int Distance, size_t... Lane>
void exchange(Pack<T>& a, Pack<T>& b, std::index_sequence<Lane...>) {
  constexpr int lanes = Vector<T>::lanes;
  const Pack<T> first = __builtin_shufflevector(a, b, ((Lane & Distance) ? lanes + Lane - Distance : Lane)...);
  b = __builtin_shufflevector(a, b, ((Lane & Distance) ? lanes + Lane : Lane + Distance)...);
  a = first;
}

template <class T, int Distance>
void transpose_stages(Pack<T>* packs) {
  if constexpr (Distance > 0) {
    constexpr int lanes = Vector<T>::lanes;
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      if ((i & Distance) == 0) {
        exchange<T, Distance>(packs[i], packs[i + Distance], std::make_index_sequence<lanes>());
      }
    }
    transpose_stages<T, Distance / 2>(packs);
  }
}

template <class T>
void transpose_tile(const T* source, int64_t source_stride, T* destination, int64_t destination_stride) {
  constexpr int lanes = Vector<T>::lanes;
  Pack<T> packs[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    packs[i] = pack_at(source + i * source_stride);
  }
  transpose_stages<T, lanes / 2>(packs);
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    pack_at(destination + i * destination_stride) = packs[i];
  }
}

template <class T>
void transpose(
    const T* source, int64_t source_stride, int64_t rows, int64_t columns, T* destination, int64_t destination_stride) {
  constexpr int lanes = Vector<T>::lanes;
  const int64_t whole_rows = rows / lanes * lanes;
  const int64_t whole_columns = columns / lanes * lanes;
  for (int64_t c = 0; c < whole_columns; c += lanes) {
    for (int64_t r = 0; r < whole_rows; r += lanes) {
      transpose_tile(
          source + r * source_stride + c, source_stride, destination + c * destination_stride + r, destination_stride);
    }
  }
  for (int64_t c = whole_columns; c < columns; ++c) {
    for (int64_t r = 0; r < whole_rows; ++r) {
      destination[c * destination_stride + r] = source[r * source_stride + c];
    }
  }
  for (int64_t r = whole_rows; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      destination[c * destination_stride + r] = source[r * source_stride + c];
    }
  }
}

// The taps of one bin.
template <class T>
struct Bin {
  TapView<T> rows;
  TapView<T> columns;
  int64_t row_begin, row_end, column_begin, column_end;

  Bin(const TapView<T>& r, const TapView<T>& c, int64_t p, int64_t q)
      : rows(r), columns(c), row_begin(r.begin[p]), row_end(r.begin[p + 1]), column_begin(c.begin[q]),
        column_end(c.begin[q + 1]) {}
};

// Count packs of Unit (a Pack or a single T) side by side, kept in registers over all taps.
template <class Unit, int Count, class T>
void mean_block(const T* base, int64_t row_stride, int64_t channels, const Bin<T>& bin, T count, T* out) {
  constexpr int width = sizeof(Unit) / sizeof(T);  // NOLINT(bugprone-sizeof-expression): a Unit may be one T
  Unit sum[Count] = {};
  for (int64_t r = bin.row_begin; r < bin.row_end; ++r) {
    const T* row = base + bin.rows.cell[r] * row_stride;
    for (int64_t c = bin.column_begin; c < bin.column_end; ++c) {
      const T weight = bin.rows.weight[r] * bin.columns.weight[c];
      const T* cell = row + bin.columns.cell[c] * channels;
#pragma GCC unroll 8
      for (int i = 0; i < Count; ++i) {
        sum[i] += weight * *reinterpret_cast<const Unit*>(cell + i * width);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Count; ++i) {
    *reinterpret_cast<Unit*>(out + i * width) = sum[i] / count;
  }
}

template <class T>
void pool_mean(
    const T* base, int64_t row_stride, int64_t channels, TapView<T> rows, TapView<T> columns, T count, T* bins) {
  constexpr int64_t lanes = Vector<T>::lanes;
  for (int64_t p = 0; p < rows.pooled; ++p) {
    for (int64_t q = 0; q < columns.pooled; ++q, bins += channels) {
      const Bin<T> bin(rows, columns, p, q);
      int64_t c = 0;
      for (; c + 8 * lanes <= channels; c += 8 * lanes) {
        mean_block<Pack<T>, 8>(base + c, row_stride, channels, bin, count, bins + c);
      }
      for (; c + 2 * lanes <= channels; c += 2 * lanes) {
        mean_block<Pack<T>, 2>(base + c, row_stride, channels, bin, count, bins + c);
      }
      for (; c + lanes <= channels; c += lanes) {
        mean_block<Pack<T>, 1>(base + c, row_stride, channels, bin, count, bins + c);
      }
      for (; c < channels; ++c) {
        mean_block<T, 1>(base + c, row_stride, channels, bin, count, bins + c);
      }
    }
  }
}

template <class Unit, int Count, class T>
void scatter_block(T* base, int64_t row_stride, int64_t cell_stride, const Bin<T>& bin, T count, const T* grad) {
  constexpr int width = sizeof(Unit) / sizeof(T);  // NOLINT(bugprone-sizeof-expression): a Unit may be one T
  Unit value[Count];
#pragma GCC unroll 8
  for (int i = 0; i < Count; ++i) {
    value[i] = *reinterpret_cast<const Unit*>(grad + i * width) / count;
  }
  for (int64_t r = bin.row_begin; r < bin.row_end; ++r) {
    T* row = base + bin.rows.cell[r] * row_stride;
    for (int64_t c = bin.column_begin; c < bin.column_end; ++c) {
      const T weight = bin.rows.weight[r] * bin.columns.weight[c];
      T* cell = row + bin.columns.cell[c] * cell_stride;
#pragma GCC unroll 8
      for (int i = 0; i < Count; ++i) {
        *reinterpret_cast<Unit*>(cell + i * width) += weight * value[i];
      }
    }
  }
}

template <class T>
void scatter_mean(
    T* base, int64_t row_stride, int64_t cell_stride, int64_t channels, TapView<T> rows, TapView<T> columns, T count,
    const T* bins) {
  constexpr int64_t lanes = Vector<T>::lanes;
  for (int64_t p = 0; p < rows.pooled; ++p) {
    for (int64_t q = 0; q < columns.pooled; ++q, bins += channels) {
      const Bin<T> bin(rows, columns, p, q);
      int64_t c = 0;
      for (; c + 2 * lanes <= channels; c += 2 * lanes) {
        scatter_block<Pack<T>, 2>(base + c, row_stride, cell_stride, bin, count, bins + c);
      }
      for (; c + lanes <= channels; c += lanes) {
        scatter_block<Pack<T>, 1>(base + c, row_stride, cell_stride, bin, count, bins + c);
      }
      for (; c < channels; ++c) {
        scatter_block<T, 1>(base + c, row_stride, cell_stride, bin, count, bins + c);
      }
    }
  }
}

template <class T>
void max_bin(
    const T* base, int64_t row_stride, int64_t channels, const Bin<T>& bin, T* __restrict best,
    int32_t* __restrict argmax) {
  int32_t sample = 0;
  for (int64_t r = bin.row_begin; r < bin.row_end; r += 2) {
    const T* low_row = base + bin.rows.cell[r] * row_stride;
    const T* high_row = base + bin.rows.cell[r + 1] * row_stride;
    for (int64_t c = bin.column_begin; c < bin.column_end; c += 2, ++sample) {
      const T* a = low_row + bin.columns.cell[c] * channels;
      const T* b = low_row + bin.columns.cell[c + 1] * channels;
      const T* d = high_row + bin.columns.cell[c] * channels;
      const T* e = high_row + bin.columns.cell[c + 1] * channels;
      const T weight_a = bin.rows.weight[r] * bin.columns.weight[c];
      const T weight_b = bin.rows.weight[r] * bin.columns.weight[c + 1];
      const T weight_d = bin.rows.weight[r + 1] * bin.columns.weight[c];
      const T weight_e = bin.rows.weight[r + 1] * bin.columns.weight[c + 1];
      for (int64_t i = 0; i < channels; ++i) {
        const T value = weight_a * a[i] + weight_b * b[i] + weight_d * d[i] + weight_e * e[i];
        const bool greater = value > best[i] || value != value;
        best[i] = greater ? value : best[i];
        argmax[i] = greater ? sample : argmax[i];
      }
    }
  }
}

template <class T>
void pool_max(
    const T* base, int64_t row_stride, int64_t channels, TapView<T> rows, TapView<T> columns,
    const uint8_t* rows_outside, const uint8_t* columns_outside, T* bins, int32_t* argmax) {
  for (int64_t p = 0; p < rows.pooled; ++p) {
    for (int64_t q = 0; q < columns.pooled; ++q, bins += channels, argmax += channels) {
      const Bin<T> bin(rows, columns, p, q);
      const bool none = bin.row_begin == bin.row_end || bin.column_begin == bin.column_end;
      const bool zero = none || rows_outside[p] != 0 || columns_outside[q] != 0;
      for (int64_t i = 0; i < channels; ++i) {
        bins[i] = zero ? T(0) : -static_cast<T>(__builtin_inf());
        argmax[i] = -1;
      }
      max_bin(base, row_stride, channels, bin, bins, argmax);
    }
  }
}

}  // namespace

const ChannelKernels<float>& float_kernels() {
  static constexpr ChannelKernels<float> kernels{
      transpose<float>, pool_mean<float>, scatter_mean<float>, pool_max<float>};
  return kernels;
}

const ChannelKernels<double>& double_kernels() {
  static constexpr ChannelKernels<double> kernels{
      transpose<double>, pool_mean<double>, scatter_mean<double>, pool_max<double>};
  return kernels;
}

}  // namespace maskray::MASKRAY_ISA
