// Walks over objects and lists of JSON.
#pragma once

#include <cstdint>
#include <string_view>

#include "json_cursor.h"

namespace maskray {

// The keys of an object that were there, a bit for each; NotPlain where one stands twice.
class OnceEach {
 public:
  void operator()(uint64_t bit) {
    JsonCursor::insist((seen_ & bit) == 0);
    seen_ |= bit;
  }
  bool all(uint64_t bits) const { return (seen_ & bits) == bits; }

 private:
  uint64_t seen_ = 0;
};

// Calls visit(key) for every key of an object; the visitor takes the value.
template <class Visit>
void read_object(JsonCursor& json, const Visit& visit) {
  json.expect('{');
  if (json.take('}')) {
    return;
  }
  do {
    const std::string_view key = json.plain_string();
    json.expect(':');
    visit(key);
  } while (json.take(','));
  json.expect('}');
}

// Calls visit() before every element of a list; the visitor takes it.
template <class Visit>
void read_list(JsonCursor& json, const Visit& visit) {
  json.expect('[');
  if (json.take(']')) {
    return;
  }
  do {
    visit();
  } while (json.take(','));
  json.expect(']');
}

}  // namespace maskray
