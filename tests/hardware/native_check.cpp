// Every native kernel on odd shapes, against sums in double: built with sanitizers by test_hardware_native.py. Arrays
// are exactly as long as the interface asks, so that reading or writing beyond them is found.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.h"

extern "C" {
int sparsearch_best_level();
void sparsearch_use_level(int level);
int sparsearch_bitmask(const sparsearch::Bitmask* w, const float* x, int64_t tokens, float* y, int threads);
void sparsearch_bitmask_rows(const sparsearch::Bitmask* w, int64_t first, int64_t last, float* to, int threads);
int sparsearch_bitmask_spreads(const sparsearch::Bitmask* w);
void sparsearch_bitmask_bfloat16_rows(const sparsearch::Bitmask* w, int64_t first, int64_t last,
                                      sparsearch::Bfloat16* to, int threads);
int sparsearch_csr16(const sparsearch::Csr16* w, const float* x, int64_t tokens, float* y, int threads);
}

using namespace sparsearch;

static uint64_t state = 1;
static double uniform() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(state >> 11) / 9007199254740992.0;
}

// A small whole number, which every type of value holds exactly.
static float whole() { return std::floor(uniform() * 200) - 100; }

struct Matrix {
    int64_t rows, columns;
    std::vector<float> values;
    float at(int64_t r, int64_t c) const { return r < rows && c < columns ? values[r * columns + c] : 0; }
};

template <class Value>
Value narrow(float value) { return static_cast<Value>(value); }
template <>
Bfloat16 narrow<Bfloat16>(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return {static_cast<uint16_t>(bits >> 16)};
}
template <>
Float16 narrow<Float16>(float value) {
    int exponent = 0;
    float fraction = std::frexp(std::fabs(value), &exponent);
    int bits = value == 0 ? 0 : ((exponent + 14) << 10) + static_cast<int>((2 * fraction - 1) * 1024);
    return {static_cast<uint16_t>(bits + (value < 0 ? 0x8000 : 0))};
}

// What a product should be, and the sum of the sizes of what is added.
struct Sum {
    double wanted, size;
};

static std::vector<Sum> sums_in_double(const Matrix& w, const std::vector<float>& x, int64_t tokens) {
    std::vector<Sum> found(tokens * w.rows, Sum{0, 0});
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t r = 0; r < w.rows; ++r)
            for (int64_t c = 0; c < w.columns; ++c) {
                double product = static_cast<double>(w.values[r * w.columns + c]) * x[t * w.columns + c];
                found[t * w.rows + r].wanted += product;
                found[t * w.rows + r].size += std::fabs(product);
            }
    return found;
}

// A case: weights, inputs, and the products.
struct Case {
    const Matrix& m;
    const std::vector<float>& x;
    int64_t tokens;
    int threads;
    bool finite;
    const std::vector<Sum>& sums;
};

static int failures = 0;
static void compare(const char* what, const Case& of, const std::vector<float>& y, double scale) {
    for (size_t i = 0; i < y.size(); ++i) {
        double wanted = of.sums[i].wanted * scale, error = std::fabs(y[i] - wanted);
        if (!(error <= 5e-5 * of.sums[i].size * scale + 1e-5) && std::isfinite(wanted) && ++failures < 20)
            std::printf("%s %lldx%lld tokens %lld: entry %zu is %g, not %g\n", what, (long long)of.m.rows,
                        (long long)of.m.columns, (long long)of.tokens, i, y[i], wanted);
    }
}

template <class Value, bool kFull = false>
void bitmask(const Case& of, int32_t kind) {
    const Matrix& m = of.m;
    int64_t groups = (m.rows + 1) / 2, blocks = padded(m.columns) / kBlock;
    std::vector<uint64_t> masks;
    std::vector<int64_t> offsets;
    std::vector<Value> values;
    std::vector<float> scales(m.rows, 0.5f), y(of.tokens * m.rows, -1.0f);
    std::vector<int32_t> sums(m.rows, 0);
    for (int64_t g = 0; g < groups; ++g) {
        offsets.push_back(static_cast<int64_t>(values.size()));
        for (int64_t b = 0; b < blocks; ++b)
            for (int64_t r = 2 * g; r < 2 * g + 2; ++r) {
                masks.push_back(0);
                for (int64_t c = 0; c < kBlock; ++c) {
                    float value = m.at(r, b * kBlock + c);
                    if (value == 0 && !kFull) continue;
                    masks.back() |= uint64_t{1} << c;
                    values.push_back(narrow<Value>(value));
                    if (r < m.rows) sums[r] += static_cast<int32_t>(value);
                }
            }
    }
    if (!kFull) values.resize(values.size() + 64 / sizeof(Value));
    values.shrink_to_fit();
    Bitmask w{m.rows, m.columns, kFull ? nullptr : masks.data(), kFull ? nullptr : offsets.data(), values.data(),
              scales.data(), sums.data(), kind, of.finite};
    if (sparsearch_bitmask(&w, of.x.data(), of.tokens, y.data(), of.threads)) ++failures;
    compare("bitmask", of, y, kind == kInt8 ? 0.5 : 1.0);
    for (int64_t first = 0; first <= 2 && first < m.rows; first += 2) {
        std::vector<float> rows((m.rows - first) * m.columns, -1.0f);
        sparsearch_bitmask_rows(&w, first, m.rows, rows.data(), of.threads);
        for (int64_t i = 0; i < (m.rows - first) * m.columns; ++i)
            if (rows[i] != m.values[first * m.columns + i] * (kind == kInt8 ? 0.5f : 1.0f) && ++failures < 20)
                std::printf("rows from %lld, kind %d: entry %lld differs\n", (long long)first, kind, (long long)i);
        if (!sparsearch_bitmask_spreads(&w)) continue;
        std::vector<Bfloat16> spread((m.rows - first) * m.columns, Bfloat16{0xffff});
        sparsearch_bitmask_bfloat16_rows(&w, first, m.rows, spread.data(), of.threads);
        for (int64_t i = 0; i < (m.rows - first) * m.columns; ++i)
            if (spread[i].bits != narrow<Bfloat16>(m.values[first * m.columns + i]).bits && ++failures < 20)
                std::printf("bfloat16 rows from %lld: entry %lld differs\n", (long long)first, (long long)i);
    }
}

static void csr16(const Case& of, int64_t chunk) {
    const Matrix& m = of.m;
    int64_t chunks = (m.columns + chunk - 1) / chunk;
    std::vector<int32_t> starts;
    std::vector<uint16_t> indices;
    std::vector<float> values, y(of.tokens * m.rows, -1.0f);
    for (int64_t block = 0; block * kRowBlock < m.rows; ++block)
        for (int64_t k = 0; k < chunks; ++k)
            for (int64_t r = block * kRowBlock; r < (block + 1) * kRowBlock; ++r) {
                starts.push_back(static_cast<int32_t>(values.size()));
                for (int64_t c = k * chunk; c < (k + 1) * chunk; ++c)
                    if (float value = m.at(r, c)) {
                        indices.push_back(static_cast<uint16_t>(c));
                        values.push_back(value);
                    }
            }
    starts.push_back(static_cast<int32_t>(values.size()));
    Csr16 w{m.rows, m.columns, chunks, starts.data(), indices.data(), values.data()};
    if (sparsearch_csr16(&w, of.x.data(), of.tokens, y.data(), of.threads)) ++failures;
    compare("csr16", of, y, 1.0);
}

int main() {
    const int64_t shapes[][2] = {{1, 1}, {2, 64}, {3, 5}, {37, 131}, {64, 128}, {65, 63}, {130, 257}};
    for (int level = 0; level <= sparsearch_best_level(); ++level) {
        sparsearch_use_level(level);
        for (auto& shape : shapes)
            for (double density : {0.0, 0.05, 0.5, 1.0}) {
                Matrix m{shape[0], shape[1], std::vector<float>(shape[0] * shape[1])};
                for (float& value : m.values) value = uniform() < density ? whole() : 0;
                for (int64_t tokens : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 65}) {
                    std::vector<float> x(tokens * m.columns);
                    // Some with no more bits than bfloat16 has.
                    for (float& value : x)
                        value = tokens % 3 == 2 ? whole() / 128 : static_cast<float>(uniform() * 2 - 1);
                    for (bool finite : {true, false}) {
                        if (tokens && !finite) x[tokens / 2 * m.columns] = INFINITY;
                        std::vector<Sum> sums = sums_in_double(m, x, tokens);
                        // Threads are what the thread sanitizer takes longest for.
                        for (int threads : {1, 3}) {
                            if (threads > 1 && density != 0.5) continue;
                            Case of{m, x, tokens, threads, finite, sums};
                            bitmask<float>(of, kFloat32);
                            bitmask<Bfloat16>(of, kBfloat16);
                            bitmask<int8_t>(of, kInt8);
                            bitmask<Float16>(of, kFloat16);
                            bitmask<Bfloat16, true>(of, kFullBfloat16);
                            bitmask<Float16, true>(of, kFullFloat16);
                            csr16(of, 128);
                        }
                    }
                }
            }
    }
    std::printf("levels 0 to %d, %d failures\n", sparsearch_best_level(), failures);
    return failures != 0;
}
