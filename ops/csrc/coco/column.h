// Numbers that are read one by one, and lie one beside the other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>

namespace maskray {

// Values that grow in place where the system can (realloc), so that growing takes no second copy.
template <class T>
class Column {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Column() = default;
  Column(const Column&) = delete;
  Column& operator=(const Column&) = delete;
  ~Column() { std::free(data_); }

  void push(T value) {
    reserve(1);
    data_[size_++] = value;
  }
  void reserve(int64_t more) {
    if (size_ + more > capacity_) {
      const int64_t capacity = std::max<int64_t>(size_ + more, capacity_ + capacity_ / 2 + 64);
      void* grown = std::realloc(data_, capacity * sizeof(T));
      if (grown == nullptr) {
        throw std::bad_alloc();
      }
      data_ = static_cast<T*>(grown);
      capacity_ = capacity;
    }
  }
  // Room for so many, of which what is not written takes no memory; only a hint.
  void expect(int64_t count) {
    void* room = size_ == 0 && count > capacity_ ? std::realloc(data_, count * sizeof(T)) : nullptr;
    if (room != nullptr) {
      data_ = static_cast<T*>(room);
      capacity_ = count;
    }
  }
  void cut(int64_t size) { size_ = size; }
  int64_t size() const { return size_; }
  const T* data() const { return data_; }
  T* data() { return data_; }
  const T& back() const { return data_[size_ - 1]; }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0, capacity_ = 0;
};

// Where columns lie and how many values they have, one after the other.
class ColumnList {
 public:
  ColumnList(const void** addresses, int64_t* sizes) : addresses_(addresses), sizes_(sizes) {}

  void put(const void* address, int64_t size) {
    *addresses_++ = address;
    *sizes_++ = size;
  }
  template <class T>
  void put(const Column<T>& column) {
    put(column.data(), column.size());
  }

 private:
  const void** addresses_;
  int64_t* sizes_;
};

}  // namespace maskray
