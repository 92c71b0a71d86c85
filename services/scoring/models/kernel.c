/* Contributions, points and reasons of rows, from the tables that contributions.py lays out.
 *
 * Invariants: for each row every sum is taken in the same order, whatever rows are beside it and
 * however many; nothing is fused or reassociated (-ffp-contract=off, no fast-math). So a row has the
 * same result to the last bit, alone or among a million, on any machine. No memory but what the
 * caller gives is written, nothing is called but exp, no state is kept: any thread may call any time.
 */
#include <stdint.h>

#define CHUNK 64   /* rows whose patterns are found together; kernel.py names it, too */
#define REASONS 6  /* at most; kernel.py names it, too */

#define FIGURES 9  /* of a row: margin to refer; kernel.py names them */
#define WITHHELD 1e18 /* from here on an input was withheld; intervals.py names it, too */

/* What a node compares: the value as LightGBM reads it there. */
enum {
    PLAIN,         /* a missing value is beyond every threshold: to the right */
    MISSING_LEFT,  /* a missing value is below every threshold */
    READ_AS_ZERO,  /* a missing value is 0 */
    ZERO_RIGHT,    /* 0 and missing values are beyond every threshold */
    ZERO_LEFT,     /* 0 and missing values are below every threshold */
    CATEGORY,      /* below every threshold if a category of the set, else beyond */
};

typedef struct {
    int64_t features, columns, blocks, groups, grades, bands, stride;
    const double *fills;           /* features: what a missing value is read as, or NaN */
    const int32_t *column_feature; /* columns */
    const int32_t *column_kind;    /* columns */
    const int32_t *set_from;       /* columns + 1, places in sets */
    const uint32_t *sets;          /* bits of categories */
    const int32_t *node_from;      /* blocks + 1, places in node_column and threshold */
    const int32_t *node_column;
    const double *threshold;
    const int32_t *entry_from;     /* blocks + 1, places in entry_feature */
    const int32_t *entry_feature;
    const int64_t *table_from;     /* blocks, places in table */
    const double *table;           /* of each block: patterns x entries */
    const int32_t *group_of;       /* features */
    const double *means;           /* groups: mean points in the reference population */
    const double *cuts;            /* grades: PD from which each begins, ascending from 0 */
    const double *edges;           /* bands: share of missing inputs up to which each holds */
    const int32_t *step_from;      /* bands + 1, places in margins, lows and highs */
    const double *margins;         /* of steps: from which each holds */
    const double *lows;            /* of steps: lower ends of intervals */
    const double *highs;           /* of steps: upper ends */
    double bias;                   /* what the trees say on average */
    double slope, intercept;       /* log-odds from margin */
    double factor, offset;         /* points from log-odds */
    double grain;                  /* points are multiples of it */
    double base;                   /* points of the bias */
    double least;                  /* points of a reason */
    double wide;                   /* ratio of the odds of an interval's ends: above, a person decides */
    double floor;                  /* PD below which no two are told apart */
    double (*exp)(double);         /* the one that Python has */
} model;

/* Of the struct, so that a caller with another layout is found out. */
const int64_t puhui_model_size = sizeof(model);

/* Round half to even, as rint does. */
static inline double nearest(double x)
{
    const double whole = 4503599627370496.0; /* 2^52: from here on every double is whole */
    if (!(x > -whole && x < whole))
        return x;
    return x < 0 ? (x - whole) + whole : (x + whole) - whole;
}

static inline double magnitude(double x)
{
    return x < 0 ? -x : x;
}

static inline double as_read(double x, int32_t kind, const uint32_t *set, int64_t words)
{
    const double tiny = 1e-35f, below = -__builtin_inf(), beyond = __builtin_nan("");
    if (x >= -tiny && x <= tiny)
        x = 0;
    switch (kind) {
    case PLAIN:
        return x;
    case MISSING_LEFT:
        return x != x ? below : x;
    case READ_AS_ZERO:
        return x != x ? 0 : x;
    case ZERO_RIGHT:
        return x != x || x == 0 ? beyond : x;
    case ZERO_LEFT:
        return x != x || x == 0 ? below : x;
    default:
        if (!(x > -1 && x < 4294967296.0))
            return beyond;
        uint64_t code = (uint64_t)(x < 0 ? 0 : x);
        return code / 32 < (uint64_t)words && (set[code / 32] >> (code % 32) & 1) ? below : beyond;
    }
}

/* Columns x step, of the rows of a chunk. */
static inline void read_rows(const model *m, const double *rows, int64_t n, int64_t step,
                             double *columns)
{
    for (int64_t c = 0; c < m->columns; c++) {
        const double *x = rows + m->column_feature[c], fill = m->fills[m->column_feature[c]];
        const uint32_t *set = m->sets + m->set_from[c];
        const int64_t words = m->set_from[c + 1] - m->set_from[c];
        for (int64_t r = 0; r < n; r++) {
            double value = x[r * m->features];
            columns[c * step + r] =
                as_read(value != value ? fill : value, m->column_kind[c], set, words);
        }
    }
}

static inline void add(const model *m, int64_t b, int64_t pattern, double *out)
{
    const int32_t *feature = m->entry_feature + m->entry_from[b];
    const int64_t entries = m->entry_from[b + 1] - m->entry_from[b];
    const double *values = m->table + m->table_from[b] + pattern * entries;
    for (int64_t e = 0; e < entries; e++)
        out[feature[e]] += values[e];
}

static void explain_one(const model *m, const double *columns, double *out)
{
    for (int64_t b = 0; b < m->blocks; b++) {
        int64_t pattern = 0;
        for (int32_t i = m->node_from[b]; i < m->node_from[b + 1]; i++)
            pattern |= (int64_t)(columns[m->node_column[i]] <= m->threshold[i])
                       << (i - m->node_from[b]);
        add(m, b, pattern, out);
    }
}

static void explain_chunk(const model *m, const double *columns, int64_t n, double *out)
{
    int64_t patterns[CHUNK];
    for (int64_t b = 0; b < m->blocks; b++) {
        for (int64_t r = 0; r < CHUNK; r++)
            patterns[r] = 0;
        for (int32_t i = m->node_from[b]; i < m->node_from[b + 1]; i++) {
            const double *column = columns + (int64_t)m->node_column[i] * CHUNK;
            const double threshold = m->threshold[i];
            const int64_t bit = (int64_t)1 << (i - m->node_from[b]);
            for (int64_t r = 0; r < CHUNK; r++)
                patterns[r] |= column[r] <= threshold ? bit : 0;
        }
        for (int64_t r = 0; r < n; r++)
            add(m, b, patterns[r], out + r * m->stride);
    }
}

static inline double within(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* From a row's margin and its share of missing inputs: PD, grade, the PD's interval. */
static void decide(const model *m, double *margin)
{
    int64_t *whole = (int64_t *)margin;
    const double log_odds = m->slope * margin[0] + m->intercept;
    const double odds = m->exp(log_odds >= 0 ? -log_odds : log_odds);
    const double pd = log_odds >= 0 ? 1 / (1 + odds) : odds / (1 + odds);
    margin[4] = pd;
    int64_t grade = 0;
    while (grade + 1 < m->grades && pd >= m->cuts[grade + 1])
        grade++;
    whole[5] = grade;

    margin[6] = margin[7] = __builtin_nan("");
    whole[8] = 0;
    if (!m->bands)
        return;
    int64_t band = 0;
    while (band + 1 < m->bands && margin[3] > m->edges[band])
        band++;
    int32_t step = m->step_from[band];
    while (step + 1 < m->step_from[band + 1] && margin[0] >= m->margins[step + 1])
        step++;
    const double low = pd < m->lows[step] ? pd : m->lows[step];
    const double high = pd > m->highs[step] ? pd : m->highs[step];
    margin[6] = low;
    margin[7] = high;
    const double from = within(low, m->floor, 1 - m->floor);
    const double to = within(high, m->floor, 1 - m->floor);
    whole[8] = to * (1 - from) > m->wide * (from * (1 - to));
}

/* From a row's contributions all that follows them: points of features; margin, points, score, share
 * of inputs that are missing or withheld, PD, grade, interval; points of groups and their strengths;
 * reasons: twice the group, and one more where it raises the score, then -1.
 */
static void finish(const model *m, const double *row, double *out)
{
    double *points = out + m->features + 1, *margin = points + m->features;
    double *groups = margin + FIGURES, *strengths = groups + m->groups;
    int64_t *whole = (int64_t *)margin, *reasons = (int64_t *)(strengths + m->groups);
    const double per_margin = -m->factor * m->slope;

    double sum = 0;
    for (int64_t f = 0; f <= m->features; f++)
        sum += out[f];
    /* The trees' sum is the same whichever way it is taken but for its last bits. */
    margin[0] = nearest(sum * 1e12) / 1e12;
    const double exact = m->offset - m->factor * (m->slope * margin[0] + m->intercept);
    const double total = nearest(exact / m->grain) * m->grain;
    margin[1] = total;
    whole[2] = (int64_t)(total + 0.5);
    whole[2] -= (double)whole[2] > total + 0.5;

    int64_t there = 0;
    for (int64_t f = 0; f < m->features; f++)
        there += magnitude(row[f]) < WITHHELD;
    margin[3] = (double)(m->features - there) / (double)m->features;
    decide(m, margin);

    for (int64_t g = 0; g < m->groups; g++)
        groups[g] = 0;
    for (int64_t f = 0; f < m->features; f++) {
        points[f] = out[f] * per_margin;
        groups[m->group_of[f]] += points[f];
    }
    double all = 0;
    int64_t largest = 0;
    for (int64_t g = 0; g < m->groups; g++) {
        groups[g] = nearest(groups[g] / m->grain) * m->grain;
        all += groups[g];
        if (magnitude(groups[g]) > magnitude(groups[largest]))
            largest = g;
    }
    /* What rounding to grains left over goes where it is smallest, relatively. */
    groups[largest] += total - m->base - all;

    for (int64_t g = 0; g < m->groups; g++)
        strengths[g] = groups[g] - m->means[g];
    for (int64_t k = 0; k < REASONS; k++) {
        int64_t best = -1;
        double most = m->least;
        for (int64_t g = 0; g < m->groups; g++) {
            const double strength = magnitude(strengths[g]);
            if (best < 0 ? strength < most : strength <= most)
                continue;
            int taken = 0;
            for (int64_t j = 0; j < k; j++)
                taken |= reasons[j] >> 1 == g;
            if (!taken) {
                best = g;
                most = strength;
            }
        }
        reasons[k] = best < 0 ? -1 : 2 * best + (strengths[best] > 0);
    }
}

/* Args: rows, n x features; out, n x stride, then room for columns x min(n, CHUNK). */
void puhui_score(const model *m, const double *rows, int64_t n, double *out)
{
    double *columns = out + n * m->stride;
    for (int64_t r = 0; r < n; r++) {
        for (int64_t f = 0; f < m->features; f++)
            out[r * m->stride + f] = 0;
        out[r * m->stride + m->features] = m->bias;
    }
    for (int64_t from = 0; from < n; from += CHUNK) {
        const int64_t size = n - from < CHUNK ? n - from : CHUNK;
        const double *inputs = rows + from * m->features;
        double *results = out + from * m->stride;
        if (size == CHUNK) {
            read_rows(m, inputs, CHUNK, CHUNK, columns);
            explain_chunk(m, columns, CHUNK, results);
        } else {
            for (int64_t r = 0; r < size; r++) {
                read_rows(m, inputs + r * m->features, 1, 1, columns);
                explain_one(m, columns, results + r * m->stride);
            }
        }
    }
    for (int64_t r = 0; r < n; r++)
        finish(m, rows + r * m->features, out + r * m->stride);
}
