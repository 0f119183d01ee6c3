// Attention of few queries to many keys on a CPU: each key and value is read once, where it lies.
//
// Softmax goes along with the sum ("online softmax", Milakov and Gimelshein 2018): keys are taken CHUNK at a time, and
// what was summed before is scaled whenever a greater score comes. Everything is computed in float32.

#include <math.h>
#include <stdint.h>
#include <string.h>

#define CHUNK 64        // Keys and values of a head that stay in the first cache.
#define WIDEST_HEAD 256 // Numbers in one head.
#define MOST_ROWS 16    // Queries of one head that are computed together.

// One line of `sequences`, and one of `spans`.
typedef struct {
  int64_t first_query, num_queries, first_span, num_spans, length, queries_before;
} Sequence;
typedef struct {
  int64_t start, stop;
} Span;

static inline float from_float32(float value) { return value; }

static inline float from_bfloat16(uint16_t value) {
  uint32_t bits = (uint32_t)value << 16;
  float wide;
  memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// e^x for x <= 0 to 2e-7: 2^n * e^r with |r| <= ln(2) / 2, e^r by its series, so that the compiler can do many at once.
static inline float exp_below_zero(float x) {
  x = x < -87.0f ? -87.0f : x;
  float n = nearbyintf(x * 1.44269504f);
  float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; // ln(2) in two parts, the first exact times n.
  float sum = 1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r / 720)))));
  int32_t bits = ((int32_t)n + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return sum * power;
}

// `num_rows` queries of one key head, and of the sequence's keys those from `from` up to `to`. Row r may see the first
// limits[r] keys of the sequence. Gives for each row the greatest score, the sum of the weights and that of the weighted
// values, both divided by e to the greatest score.
#define DEFINE_ROWS(NAME, NUMBER, LOAD)                                                                                \
  static inline __attribute__((always_inline)) void NAME(                                                              \
      const float *const *queries, const int64_t *limits, int64_t num_rows, const NUMBER *keys, const NUMBER *values,  \
      const Span *spans, int64_t num_spans, int64_t from, int64_t to, const int64_t width, float scale, float *most,   \
      float *total, float (*sums)[WIDEST_HEAD]) {                                                                      \
    float scores[CHUNK];                                                                                               \
    for (int64_t row = 0; row < num_rows; row++) {                                                                     \
      most[row] = -INFINITY;                                                                                           \
      total[row] = 0.0f;                                                                                               \
      memset(sums[row], 0, (size_t)width * sizeof(float));                                                             \
    }                                                                                                                  \
    int64_t before = 0;                                                                                                \
    for (int64_t index = 0; index < num_spans; index++) {                                                              \
      int64_t length = spans[index].stop - spans[index].start;                                                         \
      int64_t begin = from > before ? from - before : 0, end = to - before < length ? to - before : length;            \
      for (int64_t start = begin; start < end; start += CHUNK) {                                                       \
        int64_t here = end - start < CHUNK ? end - start : CHUNK, first = (spans[index].start + start) * width;        \
        const NUMBER *chunk_keys = keys + first, *chunk_values = values + first;                                       \
        for (int64_t row = 0; row < num_rows; row++) {                                                                 \
          int64_t left = limits[row] - before - start, count = left < here ? left : here;                              \
          if (count <= 0) continue;                                                                                    \
          const float *query = queries[row];                                                                           \
          float greatest = most[row], *sum = sums[row];                                                                \
          for (int64_t key = 0; key < count; key++) {                                                                  \
            const NUMBER *numbers = chunk_keys + key * width;                                                          \
            float score = 0.0f;                                                                                        \
            _Pragma("omp simd reduction(+ : score)") for (int64_t place = 0; place < width; place++)                   \
                score += query[place] * LOAD(numbers[place]);                                                          \
            scores[key] = score * scale;                                                                               \
          }                                                                                                            \
          for (int64_t key = 0; key < count; key++) greatest = scores[key] > greatest ? scores[key] : greatest;        \
          if (greatest > most[row]) {                                                                                  \
            float factor = most[row] == -INFINITY ? 0.0f : exp_below_zero(most[row] - greatest);                       \
            total[row] *= factor;                                                                                      \
            _Pragma("omp simd") for (int64_t place = 0; place < width; place++) sum[place] *= factor;                  \
            most[row] = greatest;                                                                                      \
          }                                                                                                            \
          float weights = 0.0f;                                                                                        \
          _Pragma("omp simd reduction(+ : weights)") for (int64_t key = 0; key < count; key++) {                       \
            scores[key] = exp_below_zero(scores[key] - greatest);                                                      \
            weights += scores[key];                                                                                    \
          }                                                                                                            \
          total[row] += weights;                                                                                       \
          for (int64_t key = 0; key < count; key++) {                                                                  \
            const NUMBER *numbers = chunk_values + key * width;                                                        \
            float weight = scores[key];                                                                                \
            _Pragma("omp simd") for (int64_t place = 0; place < width; place++)                                        \
                sum[place] += weight * LOAD(numbers[place]);                                                           \
          }                                                                                                            \
        }                                                                                                              \
      }                                                                                                                \
      before += length;                                                                                                \
    }                                                                                                                  \
  }

DEFINE_ROWS(attend_rows_float32, float, from_float32)
DEFINE_ROWS(attend_rows_bfloat16, uint16_t, from_bfloat16)

// What the pieces of each query gave, weighted by their greatest scores.
static void bring_together(const Sequence *sequences, int64_t num_sequences, int64_t num_heads, int64_t width,
                           int64_t num_pieces, const float *partial, int64_t num_places, float *outputs) {
  int64_t step = num_places * (width + 2);
  for (int64_t index = 0; index < num_sequences; index++) {
    const Sequence *own = sequences + index;
    for (int64_t row = 0; row < own->num_queries * num_heads; row++) {
      const float *parts = partial + (own->queries_before * num_heads + row) * (width + 2);
      float *out = outputs + (own->first_query * num_heads + row) * width, most = -INFINITY, total = 0.0f;
      for (int64_t piece = 0; piece < num_pieces; piece++)
        most = parts[piece * step] > most ? parts[piece * step] : most;
      memset(out, 0, (size_t)width * sizeof(float));
      for (int64_t piece = 0; piece < num_pieces; piece++) {
        const float *part = parts + piece * step;
        if (part[1] == 0.0f) continue; // It saw nothing.
        float factor = exp_below_zero(part[0] - most);
        total += factor * part[1];
        for (int64_t place = 0; place < width; place++) out[place] += factor * part[place + 2];
      }
      for (int64_t place = 0; place < width; place++) out[place] /= total;
    }
  }
}

// Queries and outputs [T, num_heads, width]; keys and values [num_key_heads, slots, width], a head every `key_stride` and
// `value_stride` numbers. The last query of a sequence sees all of it, the one before that all but the last key, and so
// on. Where there are fewer heads than threads each sequence is cut into `num_pieces`; `partial` then has room for
// [num_pieces, num_places, width + 2] numbers, a place for each query of these sequences and each head, which are
// brought together at the end.
#define DEFINE_ATTEND(NAME, NUMBER, ROWS)                                                                              \
  void NAME(const float *queries, const NUMBER *keys, const NUMBER *values, float *outputs,                            \
            const Sequence *sequences, int64_t num_sequences, const Span *spans, int64_t num_heads,                    \
            int64_t num_key_heads, int64_t width, int64_t key_stride, int64_t value_stride, float scale,               \
            int32_t num_threads, int64_t num_pieces, float *partial, int64_t num_places) {                             \
    int64_t group = num_heads / num_key_heads, num_items = num_sequences * num_key_heads * num_pieces;                 \
    _Pragma("omp parallel for schedule(dynamic, 1) num_threads(num_threads)")                                          \
    for (int64_t item = 0; item < num_items; item++) {                                                                 \
      const Sequence *sequence = sequences + item / (num_key_heads * num_pieces);                                      \
      int64_t head = item / num_pieces % num_key_heads, piece = item % num_pieces;                                     \
      int64_t num_rows = sequence->num_queries * group, length = sequence->length;                                     \
      int64_t from = length * piece / num_pieces, to = length * (piece + 1) / num_pieces;                              \
      const NUMBER *own_keys = keys + head * key_stride, *own_values = values + head * value_stride;                   \
      const Span *own_spans = spans + sequence->first_span;                                                            \
      for (int64_t first = 0; first < num_rows; first += MOST_ROWS) {                                                  \
        const float *asked[MOST_ROWS];                                                                                 \
        int64_t places[MOST_ROWS], limits[MOST_ROWS];                                                                  \
        int64_t count = num_rows - first < MOST_ROWS ? num_rows - first : MOST_ROWS;                                   \
        float most[MOST_ROWS], total[MOST_ROWS], sums[MOST_ROWS][WIDEST_HEAD];                                         \
        for (int64_t row = 0; row < count; row++) {                                                                    \
          int64_t query = (first + row) / group;                                                                       \
          places[row] = (sequence->first_query + query) * num_heads + head * group + (first + row) % group;            \
          asked[row] = queries + places[row] * width;                                                                  \
          limits[row] = length - sequence->num_queries + 1 + query;                                                    \
        }                                                                                                              \
        /* Of a width that is known beforehand the sums stay in registers. */                                          \
        if (width == 64)                                                                                               \
          ROWS(asked, limits, count, own_keys, own_values, own_spans, sequence->num_spans, from, to, 64, scale, most,  \
               total, sums);                                                                                           \
        else if (width == 128)                                                                                         \
          ROWS(asked, limits, count, own_keys, own_values, own_spans, sequence->num_spans, from, to, 128, scale,       \
               most, total, sums);                                                                                     \
        else                                                                                                           \
          ROWS(asked, limits, count, own_keys, own_values, own_spans, sequence->num_spans, from, to, width, scale,     \
               most, total, sums);                                                                                     \
        for (int64_t row = 0; row < count; row++) {                                                                    \
          if (num_pieces == 1) {                                                                                       \
            for (int64_t place = 0; place < width; place++)                                                            \
              outputs[places[row] * width + place] = sums[row][place] / total[row];                                    \
          } else {                                                                                                     \
            int64_t before = sequence->queries_before - sequence->first_query;                                         \
            float *part = partial + (piece * num_places + places[row] + before * num_heads) * (width + 2);             \
            part[0] = most[row];                                                                                       \
            part[1] = total[row];                                                                                      \
            memcpy(part + 2, sums[row], (size_t)width * sizeof(float));                                                \
          }                                                                                                            \
        }                                                                                                              \
      }                                                                                                                \
    }                                                                                                                  \
    if (num_pieces > 1)                                                                                                \
      bring_together(sequences, num_sequences, num_heads, width, num_pieces, partial, num_places, outputs);            \
  }

DEFINE_ATTEND(attend_float32, float, attend_rows_float32)
DEFINE_ATTEND(attend_bfloat16, uint16_t, attend_rows_bfloat16)
