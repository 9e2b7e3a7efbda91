// What a kernel is given and what it promises: plain structs and function pointers, so that code compiled for one
// instruction set never shares an inline function with code compiled for another.
//
// Words, each with one meaning in all of kernels/:
//
//     unit       one number of a cell's state; a cell has `columns` units
//     gate       one of the sums that a unit's state is made of: 4 in an LSTM, 3 in a GRU, 1 in an RNN
//     k          number of an input; `depth` counts them
//     row        what one sequence of a batch brings to a step: its inputs, its state, where its results go
//     lane       place in a vector; each is another unit
//     panel      `lanes` units with all their gates, a vector each
//     block      panels whose weights lie interleaved in memory
//     group      consecutive k whose weights of one lane are neighbours: 1 of floats, 4 or 8 of int8
//     tile       rows and panels whose sums are in registers together
//     chain      one accumulator's multiply-adds, each of which waits for the one before
//     chunk      weights that are loaded together (generic/dot_pipelined.h)
//     step       of time; kernels know only one
//     tier       an instruction set and the kernels compiled for it; an overlay has some kernels of its own and takes
//                the rest from the tier that is its base
//
// Order of operations. Every output is one defined chain, the same on every tier, for every batch and every split of
// a sequence, so its bits are the same too:
//
//     input projection   p = b, then p = fma(W[k], x[k], p) for k = 0, 1, ...
//     recurrent part     a = b' (0, but b_hn for the GRU with reset_after), then a = fma(R[k], h[k], a)
//     pre-activation     p + a, of the LSTM with peepholes fma(P, c, p + a)
//
// Vector lanes are output units and never slices of k, so the vector width cannot change the order.
//
// With quantised weights a sum over k is b + s * (integer dot product), s the product of the unit's and the input's
// scale: exact integers, so the order does not matter, and then the same three roundings everywhere
// (generic/weights.h).
//
// Weight layout. A packed matrix is one linear stream. A panel is `gates` vectors that belong to the same `lanes`
// units; the panels of a block are interleaved for each k, so that a step reads the stream from its first byte to its
// last:
//
//     block 0: [header][k = 0: panel 0 gate 0, gate 1, ..., panel 1 gate 0, ...][k = 1: ...]...
//     block 1: ...
//
// generic/weights.h has the header and what stands for one k. The last block holds the panels that are left. Blocks
// begin at multiples of kBlockAlignment, a cache line, with zeros before them where need be. Units past `columns` are
// zero and are never stored.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fusedcell {

enum class WeightType {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) name,
#include "kernels/weight_types.inc"
};

/// Planes of what multiplies weights of this type, each an int8 an input; 0 where that is floats.
constexpr ptrdiff_t planes_of(WeightType type) {
    return type == WeightType::int8 ? 1 : type == WeightType::int8_int16 ? 2 : 0;
}
constexpr bool is_quantised(WeightType type) { return planes_of(type) > 0; }

constexpr ptrdiff_t kBlockAlignment = 64;

struct PackedMatrix {
    const void* data;    // 64-byte aligned
    ptrdiff_t panels;
    ptrdiff_t blocks;
    ptrdiff_t depth;               // number of inputs k
    ptrdiff_t columns;             // outputs that are stored; the last panel may be partial
    ptrdiff_t panels_per_block;    // but for the last
    ptrdiff_t block_bytes;         // likewise
};

// A matrix of which only blocks of kStripUnits outputs x a group of k are stored that have a weight other than zero
// (generic/sparse.h). A strip is such outputs, units of one gate; the strips of a block have about equally many blocks
// stored, so their order is not that of their units. In memory
//
//     [the blocks' offsets from the start, int64 each]
//     block: [SparseStrip each][initial accumulators][unit scales][dot products' start][weights][groups, uint16 each]
//
// with what stands before the weights as in blocks of dense matrices, a float or int32 a lane. An entry is the weights
// of one group; `groups` has its number. First come as many entries of each strip as the last one has, the fewest: the
// first of each strip, the second of each, and so on. What is left of the others follows in the same order, and beside
// the group's number stands the strip's. With quantised weights all strips of a block have as many entries, the first
// of some without weights: that changes no integer sum, and here no infinity can meet them.
constexpr ptrdiff_t kStripUnits = 16;

struct SparseStrip {
    int32_t count;     // of its entries
    int32_t place;     // of its first result in y
    int32_t stride;    // from a vector of results to the next
    int32_t units;     // results that are stored
};

// An input vector in int8: x = scale * values. The values are followed by zeros up to a multiple of kGroup, which every
// tier's group of weights divides. In int16 there are two planes of such values, padded(size) apart, and x = scale *
// (128 first + second).
struct QuantisedInput {
    static constexpr ptrdiff_t kGroup = 8;

    float scale;
    int8_t values[1];    // as many as there are inputs, and what pads them

    /// Bytes of the values of an input of this size on any tier: whole groups and whole vectors, of at most 16 lanes.
    static constexpr ptrdiff_t padded(ptrdiff_t size) { return (size + 15) / 16 * 16; }
    static constexpr ptrdiff_t bytes(ptrdiff_t size, ptrdiff_t planes) {
        return static_cast<ptrdiff_t>(sizeof(float)) + planes * padded(size);
    }
};

struct QuantiseRow {
    const float* x;
    QuantisedInput* q;
};

// Where the scale of an integer input comes from (generic/quantise.h).
struct InputScale {
    enum Rule {
        kLargest,    // the vector's largest magnitude
        kBounded,    // as if that were 1, as long as no magnitude is above 1, else as kLargest
        kFixed,      // `scale`; what is beyond 127 times that saturates
    };
    Rule rule;
    float scale = 0.0F;
};

using QuantiseKernel = void (*)(const QuantiseRow* rows, ptrdiff_t num_rows, ptrdiff_t size, InputScale scale);

// Those of a row's inputs that are not zero, for `nonzero` (generic/nonzero.h).
struct NonzeroInput {
    const float* x;
    const uint16_t* places;    // ascending
    ptrdiff_t count;           // at least 1
};

// Whether about half of the inputs or more are zero. Then it lists the places of the others, or if there are none, one
// of a zero. `places` has room for `size`, from 32 to 2^16.
using ListKernel = bool (*)(const float* x, ptrdiff_t size, uint16_t* places, NonzeroInput* out);

// What multiplies the weights of a row is `input`: floats, a QuantisedInput for quantised weights, or a NonzeroInput
// for `nonzero`.

// One row of y = b + W x. `y` has room for `columns` floats; it must not overlap the input.
struct LinearRow {
    const void* input;
    float* y;
};

// Where a step leaves what it went through, of one row: c' (units) and the values of its gates (gates, units) in
// PyTorch's order. Either may be null.
struct StepTrace {
    float* c;
    float* gates;
    ptrdiff_t units;
};

// One row (one sequence of a batch) of one recurrent step.
struct CellRow {
    const void* input;          // h; in the second pass of the GRU that resets before, r h
    const float* projection;    // p above, in panel order: [panel][gate][lane]
    const float* h;             // previous hidden state
    float* h_next;              // must not overlap h
    float* c;                   // LSTM only: cell state, updated in place
    float* update;              // GRU with reset_after=False only, as the next: exp(-z) or, in a cell with options, z;
                                // padded to whole vectors
    float* reset_h;             // r h, padded to whole vectors
    const StepTrace* trace;     // null where nobody wants it, which is so of all rows of a call or of none
};

// A step of one row whose input projection is made where it is used. Of quantised weights, the kernel makes the inputs
// of x and h.
struct StepRow {
    const float* x;    // overlaps nothing that is written
    const float* h;
    float* h_next;        // must not overlap h
    float* c;             // LSTM only: updated in place
    float* projection;    // room for W x, in panel order
    QuantisedInput* quantised_x;
    QuantisedInput* quantised_h;
    InputScale x_scale;
    InputScale h_scale;
    QuantiseKernel quantise;
};

enum class ActivationKind {
#define FUSEDCELL_ACTIVATION(name, parameters) k##name,
#define FUSEDCELL_NODE_ACTIVATION(name, parameters) k##name,
#include "kernels/activations.inc"
};

struct Activation {
    ActivationKind kind;
    float alpha;    // of what takes them
    float beta;
};

// What a cell does other than PyTorch's formulas. A cell with options is computed in two passes: `linear` leaves the
// recurrent part a in memory, and a gate kernel (generic/general.h) makes the state of it.
struct CellOptions {
    static constexpr int kMostActivations = 3;

    Activation activations[kMostActivations];    // f (RNN), f g (GRU) or f g h (LSTM)
    float clip;                                  // bound on every activation's input; infinity: none
    bool clip_before_h;                          // also on the c' that enters h()
    bool input_forget;                           // f = 1 - i
    const float* peephole;                       // null, or in panel order: [panel][i f o][lane], padded with zeros
};

// Recurrent parts of rows: of row r in panel order from data + r * stride on, and the panels that a gate kernel takes.
struct GateSums {
    const float* data;
    ptrdiff_t stride;
    ptrdiff_t first;    // panel
    ptrdiff_t last;     // one past
    ptrdiff_t units;    // of the whole row; the last panel may be partial
};

// Which blocks of a matrix a kernel takes, and in which direction. Blocks are independent outputs, so neither changes a
// bit. A caller that alternates the direction finds the end of the last pass still in cache when the matrix is larger
// than that; threads that always take the same blocks each find theirs. Kernels take it by reference: to copy it as an
// argument, the CPU would have to wait for the stores of its parts, which is some 5 ns a pass.
struct BlockRange {
    ptrdiff_t first;
    ptrdiff_t last;    // one past
    bool backward;
    bool is_far = false;    // no near cache holds y, so its lines are asked for before the sums are made
};

// Stands for a kernel, or for a type of weights, that this build leaves out.
struct NoKernel;

template <class Row>
struct MatrixKernel {
    // Null, like any other function here, where this build leaves the kernel out.
    void (*run)(const PackedMatrix& weights, const Row* rows, ptrdiff_t num_rows, const BlockRange& blocks);
    int gates;
    int panels_per_block;
    int group;                        // consecutive k whose weights of one lane are neighbours
    bool has_initial_accumulators;    // for the last gate of each panel
    bool compensated;                 // int8: the dot products start at -128 times the sum of their weights
    int panels_per_tile;              // of the most rows; 0 for sparse
};

// What `linear` and then a cell's kernel do, of all blocks; those of W have the rows of R's. Null where a tier has none
// for a type of weights.
using StepKernel = void (*)(const PackedMatrix& input, const PackedMatrix& recurrent, const StepRow& row,
                            bool backward);
using GateKernel = void (*)(const CellRow* rows, ptrdiff_t num_rows, const GateSums& sums, const CellOptions& options);
using ActivationKernel = void (*)(const float* x, float* y, ptrdiff_t size, const Activation& activation);

// Chains of multiply-adds that wait for nothing but each other, to measure how many the tier does in a second.
struct MultiplyKernel {
    float (*run)(ptrdiff_t rounds);    // returns a value that depends on all of them
    ptrdiff_t multiply_adds;           // in a round
};

// Row kernels compute what one row of a model's node has to say without a matrix. x is (parts, size), contiguous, and y
// does not overlap it.
struct RowShape {
    ptrdiff_t parts;
    ptrdiff_t size;
};

struct RowParameters {
    const float* weight;    // as large as the kernel says, or null where that is allowed
    const float* bias;
    float epsilon;
};

using RowKernel = void (*)(const float* x, float* y, const RowShape& shape, const RowParameters& parameters);
using MapKernel = void (*)(const float* x, float* y, ptrdiff_t size);
using ReadKernel = float (*)(const float* data, ptrdiff_t size);

// One row of a step of training, on the way there and back. generic/training.h has the formulas, and how gates, sums
// and projections lie. What a cell does not have is null.
struct TrainingRow {
    const float* projection;    // there: may end where `gates` ends
    const float* sums;          // there: R h
    float* gates;               // values: written there, read back
    const float* h;             // before the step
    const float* c;             // likewise
    float* h_next;              // written there, read back
    float* c_next;              // likewise
    const float* dy;            // the loss's derivative by y, as all that follows
    const float* dh;            // by h through R of the step after
    float* dc;                  // LSTM: by c, updated in place; GRU: by h past R, likewise
    float* d;                   // by what enters the gates, (gates, units)
};

constexpr int kSavedGates = 4;    // of the LSTM and the GRU

using TrainingKernel = void (*)(const TrainingRow* rows, ptrdiff_t num_rows, ptrdiff_t units);

// Sums over rows of outer products of d by each of up to two x, or of d alone.
constexpr int kOuterFactors = 2;
struct OuterRow {
    const float* d;    // with kOuterOverrun floats after the last that the sum takes
    const float* x[kOuterFactors];
};
constexpr ptrdiff_t kOuterOverrun = 15;

struct OuterShape {
    static constexpr ptrdiff_t kMostLanes = 16;
    static constexpr ptrdiff_t kMostCopied = 48;    // of d

    ptrdiff_t first;                    // of d
    ptrdiff_t last;                     // one past
    ptrdiff_t inputs[kOuterFactors];    // of each x; 0 where its sum is not asked for
    float* totals[kOuterFactors];       // total[i, k], i from `first` on, gets the sum added

    /// Floats of memory that a sum over so many rows works in, with so many inputs in all.
    static constexpr ptrdiff_t scratch(ptrdiff_t rows, ptrdiff_t inputs) {
        return rows * (inputs + kOuterFactors * kMostLanes + kMostCopied) + kMostCopied * kMostLanes;
    }
};

using OuterKernel = void (*)(const OuterRow* rows, ptrdiff_t num_rows, const OuterShape& shape, float* scratch);

// The kernels for weights of one type.
struct WeightKernels {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) MatrixKernel<Row> name;
#define FUSEDCELL_STEP_KERNEL(name, Operation) StepKernel name;
#define FUSEDCELL_MULTIPLY_KERNEL(name) MultiplyKernel name;
#include "kernels/kernels.inc"
};

// What a tier has other than the tier that it builds on: kernels for some types of weights, and nothing for the rest.
struct KernelOverlay {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) WeightKernels name;
#include "kernels/weight_types.inc"
};

// All kernels of one instruction-set tier.
struct KernelTable {
    const char* isa;
    int lanes;
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) WeightKernels name;
#include "kernels/weight_types.inc"
#define FUSEDCELL_GATE_KERNEL(name, Cell) GateKernel name;
#define FUSEDCELL_ACTIVATION_KERNEL(name) ActivationKernel name;
#define FUSEDCELL_ROW_KERNEL(name, Function, is_kept) RowKernel name;
#define FUSEDCELL_MAP_KERNEL(name, Function) MapKernel name;
#define FUSEDCELL_QUANTISE_KERNEL(name, Function, Weights) QuantiseKernel name;
#define FUSEDCELL_LIST_KERNEL(name) ListKernel name;
#define FUSEDCELL_READ_KERNEL(name) ReadKernel name;
#define FUSEDCELL_TRAINING_KERNEL(name, Type, Function) Type name;
#include "kernels/kernels.inc"
};

#define FUSEDCELL_TIER(isa, required_features) \
    namespace isa {                            \
    extern const KernelTable kernel_table;     \
    }
#define FUSEDCELL_OVERLAY(isa, base, required_features) \
    namespace isa {                                     \
    extern const KernelOverlay overlay;                 \
    }
#include "kernels/tiers.inc"

}    // namespace fusedcell
