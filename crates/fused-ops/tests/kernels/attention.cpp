// attention.cu under the emulator: a program that reads calls, runs the kernels and compares them with attention's definition.
//
//   c++ -std=c++17 -O2 -DEMULATE -DHEAD=64 -DROTARY=16 -I . attention.cpp -o attention && ./attention < calls
//
// A call is a line of numbers: batch, time, heads, kind of starts (0 none, 1 documents, 2 one late boundary, 3 any), spread of
// qkv, seed, then for each of the six kernels its name, its grid (three numbers) and bytes of shared memory.
// `layouts` on a line of its own compares the emulated tensor cores with what NVIDIA publishes of theirs.
// A line of output each. Exit status: 0, or 1 with the first call whose result is wrong or that the emulator refuses.
#include "attention.cu"

#include <cstdio>
#include <iostream>
#include <map>
#include <random>
#include <sstream>

namespace {

// What rounding to bf16 changes a number by, at most, relative to it.
constexpr double UNIT = 1.0 / 512;

using Numbers = std::vector<double>;

double rounded(double x) { return bf16_value(bf16_bits(float(x))); }

struct Call {
    int batch, time, heads, kind, seed;
    double spread;
    struct Launch { dim3 grid; size_t shared; };
    std::map<std::string, Launch> launches;
};

struct Inputs {
    Numbers qkv, gout;              // [B·T, H, 3, D], [B·T, H, D]
    std::vector<float> cos, sin;    // [T, R/2]
    std::vector<int> starts;        // [B, T], or nothing
};

struct Results {
    Numbers out, gqkv;              // as qkv's and gout's shapes
    Numbers lse;                    // [B, H, T], base 2
};

Inputs inputs_of(const Call& call) {
    std::mt19937 random(call.seed);
    std::normal_distribution<double> normal;
    Inputs in;
    const size_t rows = size_t(call.batch) * call.time * call.heads;
    for (size_t i = 0; i < rows * 3 * D; ++i) in.qkv.push_back(rounded(normal(random) * call.spread));
    for (size_t i = 0; i < rows * D; ++i) in.gout.push_back(rounded(normal(random)));
    for (int t = 0; t < call.time; ++t)
        for (int i = 0; i < HALF; ++i) {
            double angle = t * pow(10000.0, -double(i) / std::max(HALF, 1));
            in.cos.push_back(std::cos(angle)), in.sin.push_back(std::sin(angle));
        }
    for (int b = 0; b < call.batch && call.kind; ++b)
        for (int t = 0, start = 0; t < call.time; ++t) {
            if (call.kind == 1 && random() % 40 == 0) start = t;
            if (call.kind == 2) start = t >= 2 * call.time / 3 ? 2 * call.time / 3 : 0;
            // Not ascending, some beyond the position, some before the sequence.
            if (call.kind == 3) start = int(random() % (call.time + 8)) - (random() % 8 ? 3 : 1000);
            in.starts.push_back(start);
        }
    return in;
}

// ---- The definition (src/definition/attention.rs), exact or with what flash attention rounds to bf16 -----------------
// That is: probabilities and the gradients of scores, as factors of products, and the results; scores stay as they are.


/// In f32 on the way in, where its rounding to bf16 is part of the kernels' inputs.
template <class T> void rotate(Numbers& x, const Inputs& in, int time, T direction) {
    for (int t = 0; t < time; ++t)
        for (int i = 0; i < HALF; ++i) {
            T c = in.cos[t * HALF + i], s = direction * in.sin[t * HALF + i];
            T a = T(x[t * D + i]), b = T(x[t * D + i + HALF]);
            x[t * D + i] = a * c - b * s, x[t * D + i + HALF] = b * c + a * s;
        }
}

Results definition(const Call& call, const Inputs& in, bool exact) {
    auto factor = [=](double x) { return exact ? x : rounded(x); };
    const int T = call.time, H = call.heads;
    const size_t rows = size_t(call.batch) * T * H;
    Results r{Numbers(rows * D), Numbers(rows * 3 * D), Numbers(rows)};
    const double root = 1 / std::sqrt(double(D));
    for (int b = 0; b < call.batch; ++b)
        for (int h = 0; h < H; ++h) {
            Numbers part[4];  // q, k, v, gout
            auto row = [&](int t) { return (size_t(b) * T + t) * H + h; };
            for (auto& x : part) x.resize(size_t(T) * D);
            for (int t = 0; t < T; ++t)
                for (int d = 0; d < D; ++d) {
                    for (int i = 0; i < 3; ++i) part[i][t * D + d] = in.qkv[(row(t) * 3 + i) * D + d];
                    part[3][t * D + d] = in.gout[row(t) * D + d];
                }
            auto &q = part[0], &k = part[1], &v = part[2], &g = part[3];
            // Rounded either way: the kernels' inputs.
            for (auto* x : {&q, &k}) {
                rotate(*x, in, T, 1.0f);
                for (double& y : *x) y = rounded(y);
            }
            auto dot = [&](const Numbers& x, int i, const Numbers& y, int j) {
                double sum = 0;
                for (int d = 0; d < D; ++d) sum += x[i * D + d] * y[j * D + d];
                return sum;
            };
            Numbers out(size_t(T) * D), gq(out), gk(out), gv(out), p(T), gp(T);
            for (int t = 0; t < T; ++t) {
                const int from = in.starts.empty() ? 0 : std::max(0, std::min(in.starts[size_t(b) * T + t], t));
                double top = -INFINITY, total = 0, centre = 0;
                for (int j = from; j <= t; ++j) top = std::max(top, p[j] = dot(q, t, k, j) * root);
                for (int j = from; j <= t; ++j) total += p[j] = std::exp(p[j] - top);
                r.lse[(size_t(b) * H + h) * T + t] = (top + std::log(total)) / std::log(2.0);
                for (int j = from; j <= t; ++j) {
                    p[j] /= total;
                    gp[j] = dot(g, t, v, j);
                    centre += p[j] * gp[j];
                }
                for (int j = from; j <= t; ++j)
                    for (int d = 0; d < D; ++d) out[t * D + d] += factor(p[j]) * v[j * D + d];
                // Flash attention takes the centre from the rounded result. Where a row has one key, and so no gradient, what is
                // left is that rounding.
                if (!exact) {
                    centre = 0;
                    for (int d = 0; d < D; ++d) centre += rounded(out[t * D + d]) * g[t * D + d];
                }
                for (int j = from; j <= t; ++j) {
                    const double weight = factor(p[j]), gs = factor(p[j] * (gp[j] - centre) * root);
                    for (int d = 0; d < D; ++d) {
                        gv[j * D + d] += weight * g[t * D + d];
                        gq[t * D + d] += gs * k[j * D + d];
                        gk[j * D + d] += gs * q[t * D + d];
                    }
                }
            }
            for (auto* x : {&gq, &gk}) {
                for (double& y : *x) y = factor(y);
                rotate(*x, in, T, -1.0);
            }
            for (int t = 0; t < T; ++t)
                for (int d = 0; d < D; ++d) {
                    r.out[row(t) * D + d] = factor(out[t * D + d]);
                    const Numbers* gradients[3] = {&gq, &gk, &gv};
                    for (int i = 0; i < 3; ++i) r.gqkv[(row(t) * 3 + i) * D + d] = factor((*gradients[i])[t * D + d]);
                }
        }
    return r;
}

// ---- The kernels -----------------------------------------------------------------------------------------------------

/// An array that ends at an unmapped page. What is not given begins as NaN.
template <class T> T* array(size_t length, const T* content = nullptr) {
    T* a = static_cast<T*>(emulate::guarded(length * sizeof(T)));
    if (content) memcpy(a, content, length * sizeof(T));
    else memset(static_cast<void*>(a), 0xFF, length * sizeof(T));
    return a;
}

bf16* in_bf16(const Numbers& x) {
    std::vector<bf16> bits;
    for (double y : x) bits.push_back(bf16_bits(float(y)));
    return array<bf16>(bits.size(), bits.data());
}

struct Refused { std::string why; };

struct Bits { std::vector<bf16> out, gqkv; };

/// What the kernels compute with the warps in some order.
Results kernels(const Call& call, const Inputs& in, int order, Bits& bits) {
    emulate::order = order;
    Info info{call.batch, call.time, call.heads, !in.starts.empty()};
    const size_t rows = size_t(call.batch) * call.time * call.heads, tiles = (call.time + STEP - 1) / STEP;
    bf16 *qkv = in_bf16(in.qkv), *gout = in_bf16(in.gout);
    float *cos = array(in.cos.size(), in.cos.data()), *sin = array(in.sin.size(), in.sin.data());
    int* starts = in.starts.empty() ? nullptr : array(in.starts.size(), in.starts.data());
    int2* bounds = array<int2>(call.batch * tiles);
    bf16 *qk = array<bf16>(rows * 2 * D), *out = array<bf16>(rows * D), *gqkv = array<bf16>(rows * 3 * D);
    float *lse = array<float>(rows), *delta = array<float>(rows);
    auto launch = [&](const char* name, auto kernel) {
        const auto& at = call.launches.at(name);
        std::string failure = emulate::launch(at.grid, {THREADS}, at.shared, kernel);
        if (!failure.empty()) throw Refused{std::string(name) + ": " + failure};
    };
    launch("rotate_qk", [=] { rotate_qk(qkv, cos, sin, qk, info); });
    if (starts) launch("start_bounds", [=] { start_bounds(starts, bounds, info); });
    launch("attention_forward", [=] { attention_forward(qk, qkv, starts, bounds, out, lse, info); });
    launch("attention_delta", [=] { attention_delta(out, gout, delta, info); });
    launch("attention_backward_kv",
           [=] { attention_backward_kv(qk, qkv, gout, lse, delta, starts, bounds, cos, sin, gqkv, info); });
    launch("attention_backward_q",
           [=] { attention_backward_q(qk, qkv, gout, lse, delta, starts, bounds, cos, sin, gqkv, info); });
    bits = {{out, out + rows * D}, {gqkv, gqkv + rows * 3 * D}};
    Results r;
    for (bf16 x : bits.out) r.out.push_back(bf16_value(x));
    for (bf16 x : bits.gqkv) r.gqkv.push_back(bf16_value(x));
    r.lse = Numbers(lse, lse + rows);
    return r;
}

// ---- Comparison ------------------------------------------------------------------------------------------------------

struct Errors { double mean, most; };

/// Root mean square and largest error of one of `of` parts, over those of what is wanted.
Errors errors(const Numbers& got, const Numbers& want, int part, int of) {
    double e2 = 0, w2 = 0, e = 0, w = 0, n = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        if (int(i / D % of) != part) continue;
        double error = std::abs(got[i] - want[i]);
        if (!std::isfinite(got[i])) error = INFINITY;
        e2 += error * error, w2 += want[i] * want[i], ++n;
        e = std::max(e, error), w = std::max(w, std::abs(want[i]));
    }
    // Of what is all but 0, an error as of what is about 0.1: sums in another order leave some 1e-6 of what cancels.
    return {std::sqrt(e2 / n) / std::max(std::sqrt(w2 / n), 0.1), e / std::max(w, 0.1)};
}

/// Whether results are as near to the exact ones as the definition with flash attention's rounding is: within half of its error (more
/// where there are few numbers, as both errors are chance) and an eighth of a rounding (for results that are all but 0). Prints
/// what it compares.
bool compare(const Results& got, const Results& exact, const Results& in_bf16) {
    bool good = true;
    auto part = [&](const char* name, const Numbers& x, const Numbers& want, const Numbers& other, int index, int of) {
        Errors a = errors(x, want, index, of), b = errors(other, want, index, of);
        const double chance = 6 / std::sqrt(double(exact.out.size()));
        good &= a.mean <= (1.5 + chance) * b.mean + UNIT / 8 && a.most <= (2 + chance) * b.most + UNIT / 4;
        printf(" %s %.2f/%.2f %.2f/%.2f", name, a.mean / UNIT, b.mean / UNIT, a.most / UNIT, b.most / UNIT);
    };
    part("out", got.out, exact.out, in_bf16.out, 0, 1);
    const char* names[3] = {"gq", "gk", "gv"};
    for (int i = 0; i < 3; ++i) part(names[i], got.gqkv, exact.gqkv, in_bf16.gqkv, i, 3);
    double error = 0, scale = 1;
    for (size_t i = 0; i < got.lse.size(); ++i) {
        double e = std::abs(got.lse[i] - exact.lse[i]);
        error = std::max(error, std::isfinite(e) ? e : INFINITY), scale = std::max(scale, std::abs(exact.lse[i]));
    }
    printf(" lse %.1e", error);
    return good && error < 2e-5 * scale;
}

bool check(const Call& call) {
    const Inputs in = inputs_of(call);
    const Results exact = definition(call, in, true), in_bf16 = definition(call, in, false);
    printf("B%d T%d H%d D%d R%d starts %d spread %g:", call.batch, call.time, call.heads, D, ROTARY, call.kind, call.spread);
    Bits first, again;
    emulate::counters = {};
    bool good = compare(kernels(call, in, 0, first), exact, in_bf16);
    const auto counted = emulate::counters;
    printf(" mma %lu", counted.mma);
    // Four wavefronts a read of four matrices: no two rows in one bank.
    if (counted.wavefronts != 4 * counted.ldmatrix) good = false, printf(" bank conflicts");
    for (int order : {1, 2}) {
        kernels(call, in, order, again);
        if (again.out != first.out || again.gqkv != first.gqkv) good = false, printf(" other bits in order %d", order);
    }
    printf(good ? " ok\n" : " WRONG\n");
    return good;
}

/// mma against the layouts that CUTLASS publishes for SM80_16x8x16 (include/cute/atom/mma_traits_sm80.hpp), as strides in
/// column-major a [16, 16], d [16, 8] and k-slow b [8, 16]; ldmatrix and its transpose against a then read back.
bool layouts() {
    static float a[256], b[128], d[128], got[128];
    static int moved;
    for (int i = 0; i < 256; ++i) a[i] = (i * 37 % 101) - 50;
    for (int i = 0; i < 128; ++i) b[i] = (i * 53 % 97) - 48, d[i] = i;
    moved = 0;
    std::string failure = emulate::launch({}, {32}, 512, [] {
        int t0 = threadIdx.x % 4, t1 = threadIdx.x / 4;
        auto of_a = [&](int v0, int v1, int v2) { return a[32 * t0 + t1 + 16 * v0 + 8 * v1 + 128 * v2]; };
        auto of_b = [&](int v0, int v1) { return b[16 * t0 + t1 + 8 * v0 + 64 * v1]; };
        unsigned left[4], right[2];
        float sum[4];
        for (int r = 0; r < 4; ++r) left[r] = pack_bf16(of_a(0, r % 2, r / 2), of_a(1, r % 2, r / 2));
        for (int r = 0; r < 2; ++r) right[r] = pack_bf16(of_b(0, r), of_b(1, r));
        for (int e = 0; e < 4; ++e) sum[e] = d[32 * t0 + t1 + 16 * (e % 2) + 8 * (e / 2)];
        mma_bf16(sum, left, right[0], right[1]);
        for (int e = 0; e < 4; ++e) got[32 * t0 + t1 + 16 * (e % 2) + 8 * (e / 2)] = sum[e];
        // ldmatrix of a stored by rows gives mma's a; its transpose, of a stored by columns.
        for (int i = threadIdx.x; i < 128; i += 32)
            store_shared_4(4 * i, pack_bf16(a[i / 8 + 16 * (i % 8 * 2)], a[i / 8 + 16 * (i % 8 * 2 + 1)]));
        __syncwarp();
        unsigned r[4], lane = threadIdx.x;
        ldmatrix_x4(r, lane % 16 * 32 + lane / 16 * 16);
        __syncwarp();
        for (int i = 0; i < 4; ++i) moved += r[i] != left[i];
        for (int i = threadIdx.x; i < 128; i += 32) store_shared_4(4 * i, pack_bf16(a[2 * i], a[2 * i + 1]));
        __syncwarp();
        ldmatrix_x4_trans(r, (lane % 8 + lane / 16 * 8) * 32 + lane / 8 % 2 * 16);
        for (int i = 0; i < 4; ++i) moved += r[i] != left[i];
    });
    bool good = failure.empty() && moved == 0;
    for (int m = 0; m < 16; ++m)
        for (int n = 0; n < 8; ++n) {
            float want = d[m + 16 * n];
            for (int k = 0; k < 16; ++k) want += a[m + 16 * k] * b[n + 8 * k];
            good &= want == got[m + 16 * n];
        }
    printf("layouts of mma and ldmatrix%s %s\n", failure.c_str(), good ? "ok" : "WRONG");
    return good;
}

}  // namespace

int main() {
    for (std::string line; std::getline(std::cin, line); fflush(stdout)) {
        if (line == "layouts") {
            if (!layouts()) return 1;
            continue;
        }
        std::istringstream words(line);
        Call c;
        words >> c.batch >> c.time >> c.heads >> c.kind >> c.spread >> c.seed;
        std::string name;
        for (int i = 0; i < 6 && words >> name; ++i) {
            auto& l = c.launches[name];
            words >> l.grid.x >> l.grid.y >> l.grid.z >> l.shared;
        }
        if (!words || c.launches.size() != 6 || !c.launches.count("attention_forward") || c.batch < 1 || c.time < 1 || c.heads < 1 ||
            c.kind < 0 || c.kind > 3) {
            printf("not a call: %s\n", line.c_str());
            return 2;
        }
        try {
            if (!check(c)) return 1;
        } catch (const Refused& refused) {
            printf(" REFUSED: %s\n", refused.why.c_str());
            return 1;
        }
    }
}
