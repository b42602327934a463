// COCO's compressed run-length encoding: numbers of 5 bits a character, from the fourth on as a difference to the
// number two before, of pixels that are 0 and 1 by turns, down the columns.
#pragma once

#include <cstdint>
#include <vector>

namespace maskray {

// Writes a mask from its runs of ones.
class RleWriter {
 public:
  // The pixels begin..end-1 are 1; runs come in ascending order and may touch.
  void add_ones(int64_t begin, int64_t end) {
    if (begin == end_ && end_ > begin_) {
      end_ = end;
      return;
    }
    flush();
    begin_ = begin;
    end_ = end;
  }

  // The text of a mask of `num_pixels` pixels.
  const std::vector<uint8_t>& finish(int64_t num_pixels) {
    flush();
    if (num_pixels > written_ || number_ == 0) {
      write(num_pixels - written_);
    }
    return text_;
  }

 private:
  void flush() {
    if (end_ > begin_) {
      write(begin_ - written_);
      write(end_ - begin_);
      written_ = end_;
      begin_ = end_;
    }
  }

  void write(int64_t count) {
    int64_t value = number_ > 2 ? count - previous_[number_ & 1] : count;
    previous_[number_ & 1] = count;
    ++number_;
    for (bool more = true; more;) {
      const int64_t low = value & 31;
      value >>= 5;
      more = value != ((low & 16) != 0 ? -1 : 0);
      text_.push_back(static_cast<uint8_t>(48 + low + (more ? 32 : 0)));
    }
  }

  std::vector<uint8_t> text_;
  int64_t begin_ = 0, end_ = 0;  // the run that may still grow
  int64_t written_ = 0;          // pixels that are in the text
  int64_t previous_[2] = {0, 0};
  int64_t number_ = 0;
};

// Calls visit(value, begin, end) for each run of the text; false where it is no mask of `num_pixels` pixels.
template <class Visit>
bool read_rle(const uint8_t* text, int64_t length, int64_t num_pixels, const Visit& visit) {
  int64_t previous[2] = {0, 0};
  int64_t number = 0, position = 0;
  for (int64_t i = 0; i < length; ++number) {
    int64_t value = 0;
    bool more = true;
    for (int shift = 0; more; shift += 5) {
      // Seven characters hold any difference of 32-bit numbers.
      if (i == length || shift == 35 || text[i] < 48 || text[i] > 111) {
        return false;
      }
      const int64_t bits = text[i++] - 48;
      value |= (bits & 31) << shift;
      more = (bits & 32) != 0;
      if (!more && (bits & 16) != 0) {
        value -= int64_t(32) << shift;
      }
    }
    const int64_t count = number > 2 ? value + previous[number & 1] : value;
    if (count < 0 || count > num_pixels - position) {
      return false;
    }
    previous[number & 1] = count;
    visit((number & 1) != 0, position, position + count);
    position += count;
  }
  return position == num_pixels;
}

}  // namespace maskray
