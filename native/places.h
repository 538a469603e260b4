/** Checks of where rows stand in the cache. */
#pragma once
#include "words.h"

namespace dejavu {

/** Throws unless the sequence's positions `first` to `last` all have rows in a cache of so many. */
inline void checkPages(const Places& places, int64_t sequence, int64_t first, int64_t last, int64_t cacheRows) {
  need(last / places.pageRows < places.maxPages, "a position is outside the cache: it has no page");
  const int32_t* pages = places.pages + sequence * places.maxPages;
  for (int64_t page = first / places.pageRows; page * places.pageRows <= last; page++)
    need(pages[page] >= 0 && (pages[page] + int64_t{1}) * places.pageRows <= cacheRows, "a page is outside the cache");
}

/** Whether row r is the sequence's next position after the row before it. */
inline bool follows(const Places& places, int64_t r) {
  return r > 0 && places.sequences[r] == places.sequences[r - 1] && places.positions[r] == places.positions[r - 1] + 1;
}

}  // namespace dejavu
