/** Reading a command list, and the checks made while reading. */
#pragma once
#include <cstring>
#include <stdexcept>

#include "queue.h"

namespace dejavu {

inline void need(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(what);
}

class Queue::Words {
 public:
  Words(const int32_t* at, const int32_t* end) : at_(at), end_(end) {}

  bool more() const { return at_ < end_; }
  int32_t next() {
    need(at_ < end_, "the command list ends within a command");
    return *at_++;
  }
  /** Whether this op comes next; then its opcode has been read. */
  bool isNext(Opcode opcode) {
    bool is = more() && static_cast<Opcode>(*at_) == opcode;
    if (is) at_++;
    return is;
  }
  /** A number of rows, a position and the like. */
  int64_t count() {
    int32_t value = next();
    need(value >= 0, "a negative count in the command list");
    return value;
  }
  float number() {
    int32_t bits = next();
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

 private:
  const int32_t* at_;
  const int32_t* end_;
};

}  // namespace dejavu
