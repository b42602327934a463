// How functions of this library are called: by C, with plain pointers, from ops/coco_library.py; torch is not needed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <sstream>
#include <stdexcept>

#define MASKRAY_EXPORT extern "C" __attribute__((visibility("default")))

namespace maskray {

constexpr int64_t kMessageBytes = 256;

// What is wrong with arguments; the caller makes a ValueError of it.
template <class... Pieces>
void demand(bool condition, Pieces... message) {
  if (!condition) {
    std::ostringstream text;
    (text << ... << message);
    throw std::invalid_argument(text.str());
  }
}

// Runs `body`; 0, or 1 with the message of what it threw in `message`, which holds kMessageBytes.
template <class Body>
int64_t guarded(char* message, const Body& body) {
  try {
    body();
    return 0;
  } catch (const std::exception& error) {
    std::strncpy(message, error.what(), kMessageBytes - 1);
    message[kMessageBytes - 1] = '\0';
    return 1;
  }
}

}  // namespace maskray
