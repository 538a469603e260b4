/**
 * Memory in large pages, where the system has them: an address look-up is good for 512 times as many bytes, and gathered rows
 * need many. A system gives a large page only to what fills all of it, at an address that is a multiple of its size.
 */
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace dejavu {

constexpr size_t largePage = 2 << 20;

/** Addresses that are taken, aligned to a large page, and given back with this object. */
class Reservation {
 public:
  /** Throws std::runtime_error, with the reason, where there is no room for so many bytes. */
  explicit Reservation(size_t bytes);
  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  uint8_t* start() const { return start_; }

 private:
  uint8_t* start_;
  size_t bytes_;  // whole pages
};

/** Whether the classes here work on this system. */
bool hasLargePages();

/**
 * Zeros, aligned to 64 bytes, in large pages. Pieces lie one behind the other, so that a page is shared by two rather than
 * filled by none. Pages that are a piece's alone are given back with it, all others when no piece near it is left.
 */
class Piece {
 public:
  /** Throws std::runtime_error, with the reason, where there is no room. */
  explicit Piece(size_t bytes);
  ~Piece();
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  uint8_t* data() const { return data_; }

 private:
  std::shared_ptr<const Reservation> within_;
  uint8_t* data_;
  size_t bytes_;
};

}  // namespace dejavu
