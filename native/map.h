/** Files as memory: their bytes are read when they are first used, and shared with whoever else reads them. */
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace dejavu {

class Mapping;

/** A part of a file in memory, aligned as its offset in the file is. Writing changes this part only, not the file. */
struct FilePart {
  std::shared_ptr<Mapping> within;  // unmapped with its last part
  uint8_t* data;
};

/** Whether this system can do it. */
bool canMapFiles();

/** Throws std::runtime_error, with the reason, where the file cannot be mapped or has fewer bytes. */
FilePart mapFile(const std::string& path, uint64_t offset, size_t bytes);

}  // namespace dejavu
