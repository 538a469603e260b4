#include "map.h"

#include <stdexcept>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif

namespace dejavu {

#if defined(__unix__) || defined(__APPLE__)

bool canMapFiles() { return true; }

FilePart mapFile(const std::string& path, uint64_t offset, size_t bytes) {
  int file = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) throw std::runtime_error(std::strerror(errno));
  struct stat status;
  bool isFile = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  uint64_t size = isFile ? static_cast<uint64_t>(status.st_size) : 0;
  if (bytes == 0 || offset > size || bytes > size - offset) {
    close(file);
    throw std::runtime_error("it does not have the bytes asked for");
  }
  size_t before = static_cast<size_t>(offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  int flags = MAP_PRIVATE;
#if defined(MAP_NORESERVE)
  flags |= MAP_NORESERVE;  // nobody is going to write
#endif
  void* start = mmap(nullptr, bytes + before, PROT_READ | PROT_WRITE, flags, file, static_cast<off_t>(offset - before));
  int reason = errno;
  close(file);
  if (start == MAP_FAILED) throw std::runtime_error(std::strerror(reason));
  return {static_cast<uint8_t*>(start) + before, start, bytes + before};
}

void unmapFile(const FilePart& part) { munmap(part.start, part.length); }

#else

bool canMapFiles() { return false; }
FilePart mapFile(const std::string&, uint64_t, size_t) { throw std::runtime_error("this system cannot do it"); }
void unmapFile(const FilePart&) {}

#endif

}  // namespace dejavu
