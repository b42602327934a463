// Groups of boxes, and what is decided in a tile of 64 of them, whose bits are a word.
#pragma once

#include "launch.h"

#include "../box_iou.h"

namespace maskray {

constexpr int kTile = 64;

__host__ __device__ constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

__device__ inline bool begins_group(const int64_t* ids, int64_t i) { return i == 0 || ids[i - 1] != ids[i]; }

// The first place in [from, beyond) whose id is not below that of box i, or with `after` above it.
__device__ inline int64_t find_id(const int64_t* ids, int64_t i, int64_t from, int64_t beyond, bool after) {
  while (from < beyond) {
    const int64_t middle = from + (beyond - from) / 2;
    if (after ? ids[middle] <= ids[i] : ids[middle] < ids[i]) {
      from = middle + 1;
    } else {
      beyond = middle;
    }
  }
  return from;
}

template <class T>
__device__ bool overlap(const Box<T>& a, const Box<T>& b, T limit) {
  return box_intersection(a, b) > T(0) && box_iou(a, b) > limit;  // most pairs do without the division
}

__device__ inline int lowest_bit(uint64_t bits) { return __ffsll(static_cast<long long>(bits)) - 1; }

// Bits of the boxes of a tile that stay: of those there, in order, each that none before it strikes out.
__device__ inline uint64_t decide_tile(const uint64_t* overlapping, uint64_t there) {
  uint64_t kept = 0;
  while (there != 0) {
    const int first = lowest_bit(there);
    kept |= uint64_t(1) << first;
    there &= ~(overlapping[first] | uint64_t(1) << first);
  }
  return kept;
}

// Bits of a vote of 64 boxes by a whole warp: holds(i) of box i.
template <class Holds>
__device__ uint64_t vote_on_tile(const Holds& holds) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const uint64_t low = __ballot_sync(~0u, holds(lane));
  const uint64_t high = __ballot_sync(~0u, holds(lane + warpSize));
  return low | high << warpSize;
}

}  // namespace maskray
