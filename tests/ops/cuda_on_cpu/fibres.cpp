// The threads of a block as fibres, and what the sanitizers have to know of them. Compiled without thread sanitizer: what
// it does itself is none of the kernels' business.
#include "fibres.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

extern "C" {
[[gnu::weak]] void* __tsan_create_fiber(unsigned);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void __tsan_switch_to_fiber(void*, unsigned);
[[gnu::weak]] void __tsan_acquire(void*);
[[gnu::weak]] void __tsan_release(void*);
[[gnu::weak]] void __sanitizer_start_switch_fiber(void**, const void*, std::size_t);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void*, const void**, std::size_t*);
// Volatile reads are taken as relaxed atomic ones, which they are on a GPU.
std::uint32_t __tsan_atomic32_load(const volatile std::uint32_t*, int) __attribute__((weak));
std::uint64_t __tsan_atomic64_load(const volatile std::uint64_t*, int) __attribute__((weak));
void __tsan_volatile_read4(void* address) { __tsan_atomic32_load(static_cast<std::uint32_t*>(address), 0); }
void __tsan_volatile_read8(void* address) { __tsan_atomic64_load(static_cast<std::uint64_t*>(address), 0); }
}

namespace cuda_on_cpu {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr unsigned kNoSync = 1;  // a switch puts nothing in order

enum class State { kNotBegun, kReady, kAtBarrier, kAtVote, kDone };

struct Place {
  const char* file = nullptr;
  int line = 0;
  bool operator==(const Place& other) const { return line == other.line && std::strcmp(file, other.file) == 0; }
};

struct Stack {
  void* memory = nullptr;
  void* of_tsan = nullptr;
};

struct Fibre {
  dim3 index;
  unsigned number = 0;
  State state = State::kNotBegun;
  Place place;
  unsigned mask = 0, num_votes = 0;
  WarpValues votes;
  std::uint64_t given = 0;
  std::unique_ptr<ucontext_t> context;
  Stack stack;
  void* fake_stack = nullptr;
};

std::unique_ptr<std::byte[]> poisoned(std::size_t bytes) {
  auto memory = std::unique_ptr<std::byte[]>(new std::byte[bytes]);
  std::memset(memory.get(), 0xFF, bytes);
  return memory;
}

struct Block {
  std::map<std::pair<std::string, int>, std::unique_ptr<std::byte[]>> variables;
  std::unique_ptr<std::byte[]> dynamic;
  std::unique_ptr<char[]> tokens = std::make_unique<char[]>(2);  // what barriers put in order, by turns
  std::unique_ptr<char[]> vote_tokens;  // the same, two of each warp

  Block(std::size_t threads, std::size_t shared_bytes)
      : dynamic(poisoned(shared_bytes)), vote_tokens(std::make_unique<char[]>(2 * (threads / kWarp + 1))) {}
};

struct Grid {
  Shape shape;
  dim3 block_index;
  const std::function<void()>* thread = nullptr;
  std::vector<Fibre> fibres;
  std::vector<std::unique_ptr<Block>> blocks;  // of thread sanitizer all: what is freed must be in order with its use
  Block* block = nullptr;
  unsigned barriers = 0;
  Fibre* current = nullptr;
  ucontext_t scheduler{};
  void* scheduler_of_tsan = nullptr;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_bytes = 0;
  std::unique_ptr<char[]> tokens = std::make_unique<char[]>(2);  // before and after the launch
  std::mt19937_64 random;
  std::vector<unsigned> not_begun, ready;  // threads of the block
  std::vector<Stack> used_stacks;

  unsigned take(std::vector<unsigned>& threads) {
    std::swap(threads[random() % threads.size()], threads.back());
    const unsigned taken = threads.back();
    threads.pop_back();
    return taken;
  }
  unsigned take_not_begun() {
    const unsigned taken = take(not_begun);
    fibres[taken].state = State::kReady;
    return taken;
  }
};

Grid* running = nullptr;
std::mutex one_at_a_time;
std::vector<Stack> free_stacks;  // for the next threads, of this launch and of others

[[noreturn]] void give_up(const char* what, const Place& place) {
  std::fprintf(stderr, "cuda_on_cpu: %s at %s:%d\n", what, place.file == nullptr ? "?" : place.file, place.line);
  std::abort();
}

bool has_tsan() { return __tsan_create_fiber != nullptr; }
void acquire(void* token) {
  if (has_tsan()) {
    __tsan_acquire(token);
  }
}
void release(void* token) {
  if (has_tsan()) {
    __tsan_release(token);
  }
}

// A stack, which thread sanitizer takes for a thread. One that is free is drawn: with the next block another thread has
// it, so that the sanitizer does not take two blocks for one thread after the other.
Stack take_stack() {
  if (!free_stacks.empty()) {
    std::swap(free_stacks[running->random() % free_stacks.size()], free_stacks.back());
    const Stack stack = free_stacks.back();
    free_stacks.pop_back();
    return stack;
  }
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    give_up("no memory for stacks", {});
  }
  return {memory, has_tsan() ? __tsan_create_fiber(0) : nullptr};
}

// From a fibre to the scheduler, and back when it is the fibre's turn.
void leave(bool for_good = false) {
  Fibre& fibre = *running->current;
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(
        for_good ? nullptr : &fibre.fake_stack, running->scheduler_stack, running->scheduler_bytes);
  }
  if (has_tsan()) {
    __tsan_switch_to_fiber(running->scheduler_of_tsan, kNoSync);
  }
  if (fibre.context == nullptr) {  // it began on the stack of another
    fibre.context = std::make_unique<ucontext_t>();
  }
  fibre.state = for_good ? State::kDone : fibre.state;
  swapcontext(fibre.context.get(), &running->scheduler);
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(fibre.fake_stack, &running->scheduler_stack, &running->scheduler_bytes);
  }
}

// Where a stack begins: it runs a thread, and after it others that have not begun, as long as none has to wait.
void enter() {
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(nullptr, &running->scheduler_stack, &running->scheduler_bytes);
  }
  while (true) {
    acquire(&running->tokens[0]);
    (*running->thread)();
    release(&running->tokens[1]);
    Fibre& done = *running->current;
    done.state = State::kDone;
    if (running->not_begun.empty() || has_tsan()) {
      break;
    }
    Fibre& next = running->fibres[running->take_not_begun()];
    next.stack = done.stack;
    running->current = &next;
  }
  leave(true);
}

// Lets a thread go on; returns the one that had to stop, which is another where this one came to its end.
Fibre& resume(Fibre& fibre) {
  Grid& grid = *running;
  grid.current = &fibre;
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(&grid.scheduler_fake_stack, fibre.stack.memory, kStackBytes);
  }
  if (has_tsan()) {
    __tsan_switch_to_fiber(fibre.stack.of_tsan, kNoSync);
  }
  swapcontext(&grid.scheduler, fibre.context.get());
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(grid.scheduler_fake_stack, nullptr, nullptr);
  }
  Fibre& stopped = *grid.current;
  if (stopped.state == State::kDone) {
    // Thread sanitizer takes two threads of a block on one stack for one: they are free when the block has ended.
    (has_tsan() ? grid.used_stacks : free_stacks).push_back(stopped.stack);
  }
  return stopped;
}

void begin(Fibre& fibre) {
  fibre.stack = take_stack();
  fibre.context = std::make_unique<ucontext_t>();
  getcontext(fibre.context.get());
  fibre.context->uc_stack.ss_sp = fibre.stack.memory;
  fibre.context->uc_stack.ss_size = kStackBytes;
  fibre.context->uc_link = nullptr;
  makecontext(fibre.context.get(), enter, 0);
}

// The warp of a thread goes on when all of a mask have given their values.
void finish_vote(std::vector<Fibre>& fibres, std::size_t first) {
  const std::size_t end = std::min(first + kWarp, fibres.size());
  unsigned waiting = 0, lanes = 0;
  const Fibre* one = nullptr;
  for (std::size_t i = first; i < end; ++i) {
    lanes |= 1u << (i - first);
    if (fibres[i].state == State::kAtVote) {
      waiting |= 1u << (i - first);
      one = &fibres[i];
    }
  }
  const unsigned mask = (one->mask == 0 ? ~0u : one->mask) & lanes;
  if ((waiting & mask) != mask) {
    return;
  }
  WarpValues all{mask, {}};
  for (std::size_t i = first; i < end; ++i) {
    if (mask >> (i - first) & 1) {
      if (fibres[i].mask != one->mask || !(fibres[i].place == one->place)) {
        give_up("threads of a warp vote on different things", fibres[i].place);
      }
      all.values[i - first] = fibres[i].given;
    }
  }
  for (std::size_t i = first; i < end; ++i) {
    if (mask >> (i - first) & 1) {
      fibres[i].votes = all;
      fibres[i].state = State::kReady;
      running->ready.push_back(fibres[i].number);
    }
  }
}

// Nobody can go on: either all of the block are at one barrier, or the kernel is wrong.
void finish_barrier(std::vector<Fibre>& fibres) {
  const Fibre& first = *std::find_if(fibres.begin(), fibres.end(), [](const Fibre& f) { return f.state != State::kDone; });
  for (const Fibre& fibre : fibres) {
    if (fibre.state == State::kAtVote) {
      give_up("a thread of the mask does not take part in a vote", fibre.place);
    }
    if (fibre.state == State::kDone || !(fibre.place == first.place)) {
      give_up("not all threads of the block reach the barrier", first.place);
    }
  }
  ++running->barriers;
  for (Fibre& fibre : fibres) {
    fibre.state = State::kReady;
    running->ready.push_back(fibre.number);
  }
}

// The next thread that goes on: one that waits for its turn, or one that has not begun.
Fibre& next_thread() {
  Grid& grid = *running;
  if (grid.random() % (grid.ready.size() + grid.not_begun.size()) < grid.ready.size()) {
    return grid.fibres[grid.take(grid.ready)];
  }
  Fibre& fibre = grid.fibres[grid.take_not_begun()];
  begin(fibre);
  return fibre;
}

void run_block() {
  Grid& grid = *running;
  const dim3& size = grid.shape.block;
  grid.barriers = 0;
  for (unsigned number = 0; number < grid.fibres.size(); ++number) {
    grid.fibres[number] = Fibre{};
    grid.fibres[number].number = number;
    grid.fibres[number].index = dim3(number % size.x, number / size.x % size.y, number / size.x / size.y);
    grid.not_begun.push_back(number);
  }
  while (true) {
    while (!grid.ready.empty() || !grid.not_begun.empty()) {
      const Fibre& stopped = resume(next_thread());
      if (stopped.state == State::kReady) {
        grid.ready.push_back(stopped.number);
      } else if (stopped.state == State::kAtVote) {
        finish_vote(grid.fibres, stopped.number / kWarp * kWarp);
      }
    }
    const auto waits = [](const Fibre& fibre) { return fibre.state != State::kDone; };
    if (std::none_of(grid.fibres.begin(), grid.fibres.end(), waits)) {
      free_stacks.insert(free_stacks.end(), grid.used_stacks.begin(), grid.used_stacks.end());
      grid.used_stacks.clear();
      return;
    }
    finish_barrier(grid.fibres);
  }
}

}  // namespace

const dim3& thread_index() { return running->current->index; }
const dim3& block_index() { return running->block_index; }
const dim3& block_size() { return running->shape.block; }
const dim3& grid_size() { return running->shape.grid; }
int lane() { return static_cast<int>(running->current->number % kWarp); }
void yield() { leave(); }

void barrier(const char* file, int line) {
  Fibre& fibre = *running->current;
  char* token = &running->block->tokens[running->barriers % 2];  // a thread that is ahead does not put this one in order
  fibre.place = {file, line};
  fibre.state = State::kAtBarrier;
  release(token);
  leave();
  acquire(token);
}

WarpValues vote(const char* file, int line, unsigned mask, std::uint64_t value) {
  Fibre& fibre = *running->current;
  fibre.place = {file, line};
  fibre.mask = mask;
  fibre.given = value;
  fibre.state = State::kAtVote;
  char* token = &running->block->vote_tokens[fibre.number / kWarp * 2 + fibre.num_votes++ % 2];
  release(token);
  leave();
  acquire(token);
  return fibre.votes;
}

void* shared_bytes(const char* file, int line, std::size_t bytes) {
  auto& variable = running->block->variables[{file, line}];
  if (variable == nullptr) {
    variable = poisoned(bytes);
  }
  return variable.get();
}

void* dynamic_shared_bytes() { return running->block->dynamic.get(); }

void run(const Shape& shape, const std::function<void()>& thread) {
  const std::scoped_lock lock(one_at_a_time);
  const char* seed = std::getenv("MASKRAY_SCHEDULE");
  Grid grid;
  grid.shape = shape;
  grid.thread = &thread;
  grid.random.seed(seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10));
  grid.fibres.resize(std::size_t(shape.block.x) * shape.block.y * shape.block.z);
  grid.scheduler_of_tsan = has_tsan() ? __tsan_get_current_fiber() : nullptr;
  running = &grid;
  release(&grid.tokens[0]);
  std::vector<unsigned> order(std::size_t(shape.grid.x) * shape.grid.y * shape.grid.z);
  for (unsigned i = 0; i < order.size(); ++i) {
    order[i] = i;
  }
  std::shuffle(order.begin(), order.end(), grid.random);
  for (const unsigned i : order) {
    grid.block_index = dim3(i % shape.grid.x, i / shape.grid.x % shape.grid.y, i / shape.grid.x / shape.grid.y);
    if (!has_tsan()) {
      grid.blocks.clear();
    }
    grid.block = grid.blocks.emplace_back(std::make_unique<Block>(grid.fibres.size(), shape.shared_bytes)).get();
    run_block();
  }
  acquire(&grid.tokens[1]);
  running = nullptr;
}

}  // namespace cuda_on_cpu
