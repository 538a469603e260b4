#include "map.h"

#include <stdexcept>

#include "pages.h"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>
#endif

namespace dejavu {

#if defined(__unix__) || defined(__APPLE__)

namespace {

constexpr int protection = PROT_READ | PROT_WRITE;
#if defined(MAP_NORESERVE)
constexpr int privately = MAP_PRIVATE | MAP_NORESERVE;  // nobody is going to write
#else
constexpr int privately = MAP_PRIVATE;
#endif

[[noreturn]] void fail(int reason) { throw std::runtime_error(std::strerror(reason)); }

/** An open file. */
class File {
 public:
  explicit File(const std::string& path) : number_(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    if (number_ < 0) fail(errno);
    if (fstat(number_, &status)) std::memset(&status, 0, sizeof status);
  }
  ~File() { close(number_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int number() const { return number_; }
  uint64_t size() const { return S_ISREG(status.st_mode) ? static_cast<uint64_t>(status.st_size) : 0; }

  struct stat status;

 private:
  int number_;
};

}  // namespace

/**
 * A whole file, at an address that is a multiple of a large page where the system has them: then those pages of the file that
 * the system keeps in large ones are found with one look-up each, which a mapping of every tensor by itself would prevent.
 */
class Mapping {
 public:
  explicit Mapping(const File& file) : file_(file.status), bytes_(static_cast<size_t>(file.size())) {
    uint8_t* place = nullptr;
    if (hasLargePages()) {
      reserved_ = std::make_unique<Reservation>(bytes_);
      place = reserved_->start();
    }
    void* start = mmap(place, bytes_, protection, place ? privately | MAP_FIXED : privately, file.number(), 0);
    if (start == MAP_FAILED) fail(errno);
    start_ = static_cast<uint8_t*>(start);
  }
  ~Mapping() {
    if (!reserved_) munmap(start_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  bool isOf(const struct stat& file) const {
    return file.st_dev == file_.st_dev && file.st_ino == file_.st_ino && file.st_size == file_.st_size &&
           file.st_mtime == file_.st_mtime;
  }
  /** Whether no part of these bytes was given out: parts must not see what is written to one another. */
  bool hasFree(uint64_t from, uint64_t to) const {
    for (const Range& range : given_)
      if (from < range.to && range.from < to) return false;
    return true;
  }
  uint8_t* give(uint64_t from, uint64_t to) {
    given_.push_back({from, to});
    return start_ + from;
  }

 private:
  struct Range {
    uint64_t from, to;
  };

  struct stat file_;
  size_t bytes_;
  std::unique_ptr<Reservation> reserved_;
  uint8_t* start_ = nullptr;
  std::vector<Range> given_;
};

namespace {

std::mutex mutex;
std::vector<std::weak_ptr<Mapping>> mappings;

/** One of the file in which these bytes are free. */
std::shared_ptr<Mapping> mappingOf(const File& file, uint64_t from, uint64_t to) {
  for (size_t i = 0; i < mappings.size();) {
    std::shared_ptr<Mapping> found = mappings[i].lock();
    if (found && found->isOf(file.status) && found->hasFree(from, to)) return found;
    if (found) {
      i++;
    } else {
      mappings[i] = mappings.back();
      mappings.pop_back();
    }
  }
  auto made = std::make_shared<Mapping>(file);
  mappings.push_back(made);
  return made;
}

}  // namespace

bool canMapFiles() { return true; }

FilePart mapFile(const std::string& path, uint64_t offset, size_t bytes) {
  File file(path);
  if (bytes == 0 || offset > file.size() || bytes > file.size() - offset)
    throw std::runtime_error("it does not have the bytes asked for");
  std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Mapping> within = mappingOf(file, offset, offset + bytes);
  uint8_t* data = within->give(offset, offset + bytes);
  return {std::move(within), data};
}

#else

class Mapping {};
bool canMapFiles() { return false; }
FilePart mapFile(const std::string&, uint64_t, size_t) { throw std::runtime_error("this system cannot do it"); }

#endif

}  // namespace dejavu
