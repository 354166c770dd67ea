// The bookkeeping of a generation, one batch row at a time: tokens so far, penalties, end tokens.
#pragma once
#include "each.h"

namespace stock {

constexpr float kNever = -1e10f;  // the logit of a token that must not come

STOCK_FUNCTION bool is_end(long long token, const long long* ends, int count) {
  for (int e = 0; e < count; ++e)
    if (ends[e] == token) return true;
  return false;
}

// history[row, step[row]] = token[row] for rows that go on; a negative step writes nothing.
struct NoteToken {
  long long* history;
  const long long *tokens, *steps;
  const bool* stopped;
  int columns;

  STOCK_FUNCTION void operator()(int64_t row) const {
    const long long step = steps[row];
    if (!stopped[row] && step >= 0 && step < columns) history[row * columns + step] = tokens[row];
  }
};

// The same where tokens [batch, width] hold the prompt (its last token counts) or one decoded token.
struct NoteInput {
  long long* history;
  const long long *tokens, *steps;
  const int *encoder, *decoder;
  const bool* stopped;
  int columns, width;

  STOCK_FUNCTION void operator()(int64_t row) const {
    const long long step = steps[row];
    const int last = decoder[row] > 0 ? 0 : encoder[row] - 1;
    if (!stopped[row] && last >= 0 && last < width && step >= 0 && step < columns)
      history[row * columns + step] = tokens[row * width + last];
  }
};

// End tokens cannot come in rows that are shorter than they must be.
struct HoldEnds {
  float* logits;
  const long long *lengths, *least, *ends;
  int64_t vocabulary;
  int end_count;

  STOCK_FUNCTION void operator()(int64_t row) const {
    if (lengths[row] < 0 || lengths[row] >= least[row]) return;
    for (int e = 0; e < end_count; ++e)
      if (ends[e] >= 0 && ends[e] < vocabulary) logits[row * vocabulary + ends[e]] = kNever;
  }
};

// One place of history [batch, columns], which ends at its first negative id. A token's first place applies all
// penalties of its `times` occurrences.
struct PenalizeRepeats {
  float* logits;
  const long long *history, *lengths;
  const float *penalty, *frequency, *presence;
  int64_t vocabulary;
  int columns;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const int64_t row = i / columns, place = i % columns;
    const long long* const ids = history + row * columns;
    const long long id = ids[place];
    if (lengths[row] < 0 || id < 0 || id >= vocabulary) return;
    int times = 0;
    for (int64_t p = 0; p < columns && ids[p] >= 0; ++p) {
      if (ids[p] != id) continue;
      if (p < place) return;
      ++times;
    }
    if (times == 0) return;
    float& logit = logits[row * vocabulary + id];
    logit = (logit < 0 ? logit * penalty[row] : logit / penalty[row]) - times * frequency[row] - presence[row];
  }
};

// logits [batch, vocabulary] over the row's temperature.
struct Temper {
  float* logits;
  const float* temperatures;
  int64_t vocabulary;

  STOCK_FUNCTION void operator()(int64_t i) const { logits[i] /= temperatures[i / vocabulary]; }
};

// Forbidden tokens cannot come in any row; ids outside the vocabulary mean nothing.
struct HoldTokens {
  float* logits;
  const long long* forbidden;
  int64_t vocabulary;
  int count;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const long long id = forbidden[i % count];
    if (id >= 0 && id < vocabulary) logits[i / count * vocabulary + id] = kNever;
  }
};

// A stopped row's token becomes the first end token; an end token stops its row.
struct StopAtEnds {
  long long* tokens;
  bool* stopped;
  const long long* ends;
  int end_count;

  STOCK_FUNCTION void operator()(int64_t row) const {
    if (stopped[row]) tokens[row] = ends[0];
    if (is_end(tokens[row], ends, end_count)) stopped[row] = true;
  }
};

// The same with the next input beside it; -1 is the token of a stopped row without input.
struct StopAtEndsNext {
  long long *tokens, *next;
  bool* stopped;
  const int* lengths;
  const long long* ends;
  int end_count;

  STOCK_FUNCTION void operator()(int64_t row) const {
    if (stopped[row]) tokens[row] = lengths[row] == 0 ? -1 : ends[0];
    if (!stopped[row] || lengths[row] != 0) next[row] = tokens[row];
    if (is_end(tokens[row], ends, end_count)) stopped[row] = true;
  }
};

}  // namespace stock
