/** Files as memory: their bytes are read when they are first used, and shared with whoever else reads them. */
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace dejavu {

/** A part of a file in memory, aligned as its offset in the file is. Writing changes the memory only, not the file. */
struct FilePart {
  uint8_t* data;
  void* start;  // of the mapping, which pages bound
  size_t length;
};

/** Whether this system can do it. */
bool canMapFiles();

/** Throws std::runtime_error, with the reason, where the file cannot be mapped or has fewer bytes. */
FilePart mapFile(const std::string& path, uint64_t offset, size_t bytes);

void unmapFile(const FilePart& part);

}  // namespace dejavu
