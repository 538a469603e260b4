/** The door: everything JavaScript may call, typed on its side by src/kernels/native/addon-types.ts. */
#include <napi.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <memory>
#include <stdexcept>
#include <vector>

#include "isa/cpu.h"
#include "map.h"
#include "pages.h"
#include "probe.h"
#include "queue.h"

namespace {

using dejavu::Dtype;
using dejavu::Matrix;
using dejavu::Queue;

/** Raised with every change of this surface or of the command list; the other side refuses any other number. */
constexpr int surfaceVersion = 9;
constexpr size_t alignment = 64;

/**
 * Memory is made present here and now, or a cache that grows would take a page fault, 1 to 15 µs, for every few rows of every
 * token; but large tensors are not if they may lie in large pages, which come 512 at a time. Where a system offers neither,
 * nothing changes.
 */
void makePresent([[maybe_unused]] uint8_t* data, [[maybe_unused]] size_t bytes, [[maybe_unused]] bool hugePages) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr int populate = 23;  // MADV_POPULATE_WRITE, which older headers lack and older systems refuse
  constexpr uintptr_t page = 4096;
  uintptr_t start = (reinterpret_cast<uintptr_t>(data) + page - 1) & ~(page - 1);
  uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) & ~(page - 1);
  auto advise = [&](int advice) { madvise(reinterpret_cast<void*>(start), end - start, advice); };
  if (end <= start) return;
  bool isLarge = bytes >= 2 * dejavu::largePage;
  if (isLarge && !hugePages) advise(MADV_NOHUGEPAGE);
  if (!isLarge || !hugePages) advise(populate);
#endif
}

class Engine : public Napi::ObjectWrap<Engine> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Engine",
                       {InstanceMethod<&Engine::add>("add"), InstanceMethod<&Engine::remove>("remove"),
                        InstanceMethod<&Engine::run>("run"), InstanceMethod<&Engine::seconds>("seconds"),
                        InstanceMethod<&Engine::readBandwidth>("readBandwidth"),
                        InstanceMethod<&Engine::dispose>("dispose")});
  }

  /** new Engine(instructionSet, threads, commands, hugePages) */
  explicit Engine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Engine>(info) {
    std::string wanted = info[0].As<Napi::String>();
    const dejavu::Table* const* table = dejavu::usableTables();
    while (*table && wanted != (*table)->name) table++;
    if (!*table) throw Napi::Error::New(info.Env(), "this machine cannot run " + wanted);
    hugePages_ = info[3].As<Napi::Boolean>();
    Napi::Int32Array commands = info[2].As<Napi::Int32Array>();
    commands_ = Napi::Persistent(commands);
    words_ = commands.Data();
    capacity_ = commands.ElementLength();
    queue_ = std::make_unique<Queue>(**table, info[1].As<Napi::Number>().Int32Value());
    napi_add_env_cleanup_hook(info.Env(), stopThreads, this);
    hooked_ = true;
  }

  ~Engine() override { close(Env()); }

 private:
  /** Runs when the environment ends, by process exit or with a worker thread: no thread may outlive it. */
  static void stopThreads(void* self) {
    Engine* engine = static_cast<Engine*>(self);
    engine->hooked_ = false;
    if (engine->queue_) engine->queue_->pool().stop();
  }

  void close(Napi::Env env) {
    if (hooked_) napi_remove_env_cleanup_hook(env, stopThreads, this);
    hooked_ = false;
    queue_.reset();
  }

  Queue& queue(const Napi::CallbackInfo& info) {
    if (!queue_) throw Napi::Error::New(info.Env(), "the kernels have been disposed of");
    return *queue_;
  }

  /** add(buffer, bytes, dtype, rows, columns, isOurs) → id; writes the aligned offset into word 0 of the command list. */
  Napi::Value add(const Napi::CallbackInfo& info) {
    Queue& queue = this->queue(info);
    Napi::ArrayBuffer buffer = info[0].As<Napi::ArrayBuffer>();
    size_t bytes = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    Matrix matrix{nullptr, static_cast<Dtype>(info[2].As<Napi::Number>().Int32Value()),
                  info[3].As<Napi::Number>().Int64Value(), info[4].As<Napi::Number>().Int64Value()};
    constexpr int64_t largest = int64_t{1} << 31;  // of either extent, so that no product of theirs overflows
    uint8_t* data = static_cast<uint8_t*>(buffer.Data());
    size_t offset = -reinterpret_cast<uintptr_t>(data) % alignment;
    if (matrix.dtype < Dtype::f32 || matrix.dtype > Dtype::int4 || matrix.rows < 0 || matrix.columns < 0 ||
        matrix.rows >= largest || matrix.columns >= largest || buffer.ByteLength() < bytes + offset ||
        static_cast<size_t>(dejavu::layoutOf(matrix.dtype, matrix.rows, matrix.columns).bytes) != bytes)
      throw Napi::Error::New(info.Env(), "a tensor does not fit its memory");
    matrix.data = data + offset;
    if (info[5].As<Napi::Boolean>()) makePresent(data + offset, bytes, hugePages_);
    int32_t id = queue.add(matrix);
    if (buffers_.size() <= static_cast<size_t>(id)) buffers_.resize(static_cast<size_t>(id) + 1);
    buffers_[static_cast<size_t>(id)] = Napi::Persistent(buffer.As<Napi::Object>());
    words_[0] = static_cast<int32_t>(offset);
    return Napi::Number::New(info.Env(), id);
  }

  void remove(const Napi::CallbackInfo& info) {
    int32_t id = info[0].As<Napi::Number>().Int32Value();
    guarded(info, [&] { queue(info).remove(id); });
    buffers_[static_cast<size_t>(id)].Reset();
  }

  /** run(length): executes the first `length` words of the command list. */
  void run(const Napi::CallbackInfo& info) {
    uint32_t length = info[0].As<Napi::Number>().Uint32Value();
    if (length > capacity_) throw Napi::Error::New(info.Env(), "the command list is longer than its buffer");
    guarded(info, [&] { queue(info).run(words_, length); });
  }

  Napi::Value seconds(const Napi::CallbackInfo& info) {
    Napi::Float64Array result = Napi::Float64Array::New(info.Env(), dejavu::phaseCount);
    const double* seconds = queue(info).seconds();
    for (size_t i = 0; i < dejavu::phaseCount; i++) result[i] = seconds[i];
    return result;
  }

  Napi::Value readBandwidth(const Napi::CallbackInfo& info) {
    size_t bytes = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
    double rate = 0;
    guarded(info, [&] { rate = dejavu::readBandwidth(queue(info), bytes, info[1].As<Napi::Number>().DoubleValue()); });
    return Napi::Number::New(info.Env(), rate);
  }

  void dispose(const Napi::CallbackInfo& info) {
    close(info.Env());
    buffers_.clear();
  }

  template <class Body>
  static void guarded(const Napi::CallbackInfo& info, Body body) {
    try {
      body();
    } catch (const Napi::Error&) {
      throw;
    } catch (const std::exception& error) {
      throw Napi::Error::New(info.Env(), error.what());
    }
  }

  std::unique_ptr<Queue> queue_;
  bool hooked_ = false;
  bool hugePages_ = true;
  Napi::Reference<Napi::Int32Array> commands_;
  int32_t* words_ = nullptr;
  size_t capacity_ = 0;
  std::vector<Napi::ObjectReference> buffers_;  // by tensor id: they keep the memory alive
};

/** An ArrayBuffer over memory that `owner` keeps; null where the host has no ArrayBuffers but over its own. */
template <class Owner>
Napi::Value bufferOver(Napi::Env env, uint8_t* data, size_t bytes, std::unique_ptr<Owner> owner) {
  auto release = [](napi_env, void*, void* hint) { delete static_cast<Owner*>(hint); };
  napi_value buffer;
  if (napi_create_external_arraybuffer(env, data, bytes, release, owner.get(), &buffer) != napi_ok) return env.Null();
  owner.release();
  return Napi::Value(env, buffer);
}

/** mapFile(path, offset, bytes) → an ArrayBuffer of that part of the file, or null. */
Napi::Value mapFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path = info[0].As<Napi::String>();
  uint64_t offset = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
  size_t bytes = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
  try {
    auto part = std::make_unique<dejavu::FilePart>(dejavu::mapFile(path, offset, bytes));
    uint8_t* data = part->data;
    return bufferOver(env, data, bytes, std::move(part));
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, "map: " + path + ": " + error.what());
  }
}

/** largeMemory(bytes) → an ArrayBuffer of zeros in large pages, or null. */
Napi::Value largeMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  size_t bytes = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
  try {
    auto piece = std::make_unique<dejavu::Piece>(bytes);
    uint8_t* data = piece->data();
    return bufferOver(env, data, bytes, std::move(piece));
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, "no room for a tensor of " + std::to_string(bytes) + " bytes: " + error.what());
  }
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  Napi::Array sets = Napi::Array::New(env);
  uint32_t count = 0;
  for (const dejavu::Table* const* table = dejavu::usableTables(); *table; table++)
    sets.Set(count++, Napi::String::New(env, (*table)->name));
  exports.Set("surfaceVersion", Napi::Number::New(env, surfaceVersion));
  exports.Set("instructionSets", sets);
  exports.Set("Engine", Engine::define(env));
  if (dejavu::canMapFiles()) exports.Set("mapFile", Napi::Function::New<mapFile>(env, "mapFile"));
  if (dejavu::hasLargePages()) exports.Set("largeMemory", Napi::Function::New<largeMemory>(env, "largeMemory"));
  return exports;
}

}  // namespace

NODE_API_MODULE(dejavu, initialize)
