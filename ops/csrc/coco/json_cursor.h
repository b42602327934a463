// A strict reader of plain JSON, as programs write it; what is not plain is refused and left to a reader that can tell.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <exception>
#include <string_view>

namespace maskray {

// The text ends before the value.
struct CutShort : std::exception {};
// Escapes or letters beyond ASCII in keys, text that is not UTF-8, numbers beyond a double, wrong types, no JSON at
// all.
struct NotPlain : std::exception {};

class JsonCursor {
 public:
  JsonCursor(const uint8_t* begin, const uint8_t* end) : at_(begin), end_(end) {}

  const uint8_t* place() const { return at_; }

  // The next character that is no space, which is not taken.
  uint8_t peek() {
    while (true) {
      need();
      const uint8_t c = *at_;
      if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
        return c;
      }
      ++at_;
    }
  }
  bool only_space_left() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) {
      ++at_;
    }
    return at_ == end_;
  }
  bool take(uint8_t c) {
    const bool found = peek() == c;
    at_ += found ? 1 : 0;
    return found;
  }
  void expect(uint8_t c) { insist(take(c)); }
  static void insist(bool condition) {
    if (!condition) {
      throw NotPlain();
    }
  }

  // A string without escapes.
  std::string_view plain_string() {
    expect('"');
    const uint8_t* first = at_;
    for (;; ++at_) {
      need();
      insist(*at_ >= 0x20 && *at_ < 0x80 && *at_ != '\\');
      if (*at_ == '"') {
        return {reinterpret_cast<const char*>(first), static_cast<size_t>(at_++ - first)};
      }
    }
  }

  // A string whose only escape is that of the backslash, as texts of run lengths have it.
  template <class Text>
  void copy_string(Text& text) {
    expect('"');
    while (true) {
      const uint8_t* first = at_;
      while (at_ < end_ && *at_ >= 0x20 && *at_ < 0x80 && *at_ != '"' && *at_ != '\\') {
        ++at_;
      }
      text.append(first, at_);
      need();
      if (*at_ == '"') {
        ++at_;
        return;
      }
      insist(*at_ == '\\');
      ++at_;
      need();
      insist(*at_ == '\\');
      text.append(at_, at_ + 1);
      ++at_;
    }
  }

  // A whole number of at most 18 digits.
  int64_t whole() {
    peek();
    const bool negative = *at_ == '-';
    at_ += negative ? 1 : 0;
    need();
    const uint8_t* first = at_;
    int64_t value = 0;
    while (at_ < end_ && is_digit(*at_)) {
      insist(at_ - first < 18);
      value = 10 * value + (*at_++ - '0');
    }
    need();
    insist(at_ > first && (*first != '0' || at_ == first + 1) && *at_ != '.' && *at_ != 'e' && *at_ != 'E');
    return negative ? -value : value;
  }

  // A finite number, rounded as by strtod; whole numbers give no -0.
  double number() {
    peek();
    const uint8_t* token = at_;
    at_ += *at_ == '-' ? 1 : 0;
    const uint8_t* first = at_;
    uint64_t digits = 0;
    take_digits(digits);
    need();
    insist(at_ > first && (*first != '0' || at_ == first + 1));
    int64_t count = at_ - first, decimals = 0;
    bool plain = true;
    if (*at_ == '.') {
      const uint8_t* point = at_++;
      take_digits(digits);
      need();
      decimals = at_ - point - 1;
      insist(decimals > 0);
      count += decimals;
    } else if (*at_ != 'e' && *at_ != 'E' && count <= 18) {
      return static_cast<double>(*token == '-' ? -static_cast<int64_t>(digits) : static_cast<int64_t>(digits));
    }
    if (*at_ == 'e' || *at_ == 'E') {
      plain = false;
      skip_exponent();
    }
    // Exact where both are doubles; the quotient is then rounded once.
    if (plain && count <= 18 && digits <= (uint64_t{1} << 53) && decimals <= 18) {
      const double value = static_cast<double>(digits) / kPowers[decimals];
      return *token == '-' ? -value : value;
    }
    double value = 0;
    const auto parsed =
        std::from_chars(reinterpret_cast<const char*>(token), reinterpret_cast<const char*>(at_), value);
    insist(parsed.ec == std::errc() && parsed.ptr == reinterpret_cast<const char*>(at_) && std::isfinite(value));
    return value;
  }

  bool take_null() {
    if (peek() != 'n') {
      return false;
    }
    word("null");
    return true;
  }

  // Any value, of which only the form is looked at.
  void skip() {
    int64_t depth = 0;
    uint64_t is_object = 0;  // a bit for each open bracket
    while (true) {
      const uint8_t c = peek();
      if (c == '{' || c == '[') {
        ++at_;
        insist(++depth < 64);
        is_object = (is_object << 1) | (c == '{' ? 1 : 0);
        if (take(c == '{' ? '}' : ']')) {
          --depth;
          is_object >>= 1;
        } else {
          if (c == '{') {
            skip_string();
            expect(':');
          }
          continue;
        }
      } else {
        skip_scalar(c);
      }
      while (depth > 0 && !take(',')) {
        expect((is_object & 1) != 0 ? '}' : ']');
        --depth;
        is_object >>= 1;
      }
      if (depth == 0) {
        return;
      }
      if ((is_object & 1) != 0) {
        skip_string();
        expect(':');
      }
    }
  }

 private:
  static constexpr double kPowers[19] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                         1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};

  static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }
  void need() const {
    if (at_ == end_) {
      throw CutShort();
    }
  }
  void take_digits(uint64_t& digits) {
    while (at_ < end_ && is_digit(*at_)) {
      digits = 10 * digits + (*at_++ - '0');  // wraps beyond 18 digits, where it is not used
    }
  }
  void skip_exponent() {
    ++at_;
    need();
    at_ += *at_ == '+' || *at_ == '-' ? 1 : 0;
    const uint8_t* first = at_;
    uint64_t ignored = 0;
    take_digits(ignored);
    need();
    insist(at_ > first);
  }
  void word(std::string_view text) {
    for (const char c : text) {
      need();
      insist(*at_++ == static_cast<uint8_t>(c));
    }
  }
  void skip_string() {
    expect('"');
    while (true) {
      need();
      const uint8_t c = *at_++;
      if (c == '"') {
        return;
      }
      insist(c >= 0x20);
      if (c >= 0x80) {
        skip_letter(c);
      } else if (c == '\\') {
        need();
        const uint8_t escaped = *at_++;
        if (escaped == 'u') {
          for (int i = 0; i < 4; ++i) {
            need();
            const uint8_t digit = *at_++;
            insist(is_digit(digit) || (digit >= 'a' && digit <= 'f') || (digit >= 'A' && digit <= 'F'));
          }
        } else {
          insist(std::string_view("\"\\/bfnrt").find(static_cast<char>(escaped)) != std::string_view::npos);
        }
      }
    }
  }
  // The rest of a letter of UTF-8 that begins so; no surrogates, and none that is longer than it need be.
  void skip_letter(uint8_t first) {
    insist(first >= 0xc2 && first <= 0xf4);
    const int more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    for (int i = 0; i < more; ++i) {
      need();
      const uint8_t low = i > 0 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
      const uint8_t high = i > 0 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
      insist(*at_ >= low && *at_ <= high);
      ++at_;
    }
  }
  void skip_scalar(uint8_t c) {
    switch (c) {
      case '"':
        return skip_string();
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        number();
    }
  }

  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace maskray
