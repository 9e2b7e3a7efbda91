// fusedcell: trained recurrent networks (RNN, LSTM, GRU) on a CPU, one time step at a time or a whole sequence.
//
//     const fusedcell::Layer layer = fusedcell::load("model.safetensors");    // as Python's fusedcell.save writes it
//     fusedcell::Stream stream(layer);
//     stream.step(x, y);    // in an audio callback: no allocation, no lock, no system call, no exception
//
//     const fusedcell::Model model = fusedcell::load_model("model.safetensors");    // a whole model likewise
//     fusedcell::ModelStream stream(model);
//     rows = stream.process(x, 1, y);
//
// Outputs have the bits that Python's fusedcell gives for the same layer, on every instruction-set tier.
//
// Arrays are float32, contiguous, in the layouts that are given in brackets, with T time steps, B batch rows,
// I = input_size(), H = hidden_size(), P = output_size(), L = num_layers(), D = num_directions(). Sequences of a layer
// whose batch_first() is true have their first two axes the other way round, as in Python: (B, T, I), (B, T, D * P).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// Clang 20's -fsanitize=realtime watches functions that say so, and -Wfunction-effects checks who calls them.
#if defined(__has_cpp_attribute)
#if __has_cpp_attribute(clang::nonblocking)
#define FUSEDCELL_NONBLOCKING [[clang::nonblocking]]
#endif
#endif
#ifndef FUSEDCELL_NONBLOCKING
#define FUSEDCELL_NONBLOCKING
#endif

namespace fusedcell {

/// A file that cannot be read, is damaged or is not a layer's, or a tier that this machine does not run. what() names
/// the file, and what in it was found and what was expected.
class LoadError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A file that is sound as far as can be told, but says something that this version does not know.
class UnsupportedError : public LoadError {
public:
    using LoadError::LoadError;
};

/// A layer's weights. They never change and are shared: a copy is as cheap as a shared_ptr, and any number of threads
/// may use one at the same time. A cell's file makes a layer of one layer and direction.
class Layer {
public:
    // No moves of its own: a moved-from layer still is one.
    Layer(const Layer&) noexcept = default;
    Layer& operator=(const Layer&) noexcept = default;

    std::size_t input_size() const noexcept;
    std::size_t hidden_size() const noexcept;
    /// Size of h and of a step's result: the projection's, or hidden_size() where there is none.
    std::size_t output_size() const noexcept;
    std::size_t num_layers() const noexcept;
    /// 2 for a bidirectional layer.
    std::size_t num_directions() const noexcept;
    /// Whether sequences are (B, T, ...) rather than (T, B, ...), for run() and for Stream::process(); the file says
    /// so.
    bool batch_first() const noexcept;
    /// Whether the one direction runs from the last step to the first.
    bool reverse() const noexcept;
    /// Whether there is a cell state c, which is so in an LSTM.
    bool has_cell_state() const noexcept;
    /// The type in which weights are stored: "float32", "bfloat16", "float16" or "int8"; "mixed" where
    /// they differ.
    const char* dtype() const noexcept;
    /// The instruction-set tier that runs them.
    const char* isa() const noexcept;
    /// Bytes of packed weights.
    std::size_t nbytes() const noexcept;

    /// Whole sequences: x (T, B, I), y (T, B, D * P), or (B, T, I) and (B, T, D * P) where batch_first(), which must
    /// not overlap. Starts from h (L * D, B, P) and c (L * D, B, H), whatever batch_first() says, and leaves the last
    /// state there; with null, which c must be where there is no cell state, it starts from the file's initial state or
    /// zeros, and keeps nothing. Allocates. Throws std::invalid_argument where the file's initial state is for another
    /// batch size, and std::bad_alloc.
    void run(const float* x, float* y, std::size_t steps, std::size_t batch = 1, float* h = nullptr,
             float* c = nullptr) const;

private:
    struct Data;
    explicit Layer(std::shared_ptr<const Data> data) noexcept;
    std::shared_ptr<const Data> data_;

    friend class Stream;
    friend Layer load(const std::string& path, const std::string& isa);
    friend Layer load(const void* data, std::size_t size, const std::string& isa);
};

/// Reads a layer or cell from a file that Python's fusedcell.save wrote, or from such a file in memory, which is not
/// needed afterwards. Files are not trusted: whatever their bytes, a layer is made of them or an error is thrown.
///
/// `isa` names the tier, one of isas(); empty, it is that of the environment variable FUSEDCELL_ISA, or the best.
/// Throws LoadError, UnsupportedError among them, and std::bad_alloc.
Layer load(const std::string& path, const std::string& isa = {});
Layer load(const void* data, std::size_t size, const std::string& isa = {});

/// The state of one sequence, or of a batch of them, on a layer's weights, at the file's initial state or zero. For one
/// thread at a time. step(), process() and reset() are for real-time threads: they do not allocate, lock or make
/// system calls, and throw nothing, from the first call on. They set the CPU's floating-point mode and give it back.
class Stream {
public:
    /// For `batch` rows. process() takes `block` steps at a time, for which it has memory: more of them read the
    /// inputs' weights less often. Throws std::invalid_argument for a bidirectional or reverse layer, which needs the
    /// end of the sequence first, and where the file's initial state is for another batch size; std::bad_alloc.
    explicit Stream(const Layer& layer, std::size_t batch = 1, std::size_t block = 1);
    /// A copy goes on independently. A stream that was moved from can only be destroyed or assigned to.
    Stream(const Stream& other);
    Stream(Stream&& other) noexcept;
    Stream& operator=(Stream other) noexcept;
    ~Stream();

    /// One time step: x (B, I) to y (B, P), which must not overlap.
    void step(const float* x, float* y) noexcept FUSEDCELL_NONBLOCKING;
    /// Many: x (T, B, I) to y (T, B, P), or (B, T, I) to (B, T, P) where layer().batch_first(), which must not
    /// overlap; the same bits as step by step.
    void process(const float* x, float* y, std::size_t steps) noexcept FUSEDCELL_NONBLOCKING;
    /// Back to the state that the stream started from: every row, or one of 0 to batch() - 1.
    void reset() noexcept FUSEDCELL_NONBLOCKING;
    void reset(std::size_t row) noexcept FUSEDCELL_NONBLOCKING;

    /// The state, to read and to write: h (L, B, P), and c (L, B, H), or null where there is no cell state.
    float* h() noexcept;
    float* c() noexcept;
    const float* h() const noexcept;
    const float* c() const noexcept;

    const Layer& layer() const noexcept;
    std::size_t batch() const noexcept;

private:
    struct Data;
    std::unique_ptr<Data> data_;
};

/// Rows of an input of a model: floats (..., size), or where it takes tokens, whole numbers (...). Borrowed for a call.
struct Input {
    Input(const float* rows) noexcept : floats(rows) {}
    Input(const std::int32_t* rows) noexcept : tokens(rows) {}

    const float* floats = nullptr;
    const std::int32_t* tokens = nullptr;
};

/// A whole model: nodes over rows, from one or several inputs to one or several outputs. It never changes and is
/// shared: a copy is as cheap as a shared_ptr, and any number of threads may use one at the same time.
class Model {
public:
    // No moves of its own: a moved-from model still is one.
    Model(const Model&) noexcept = default;
    Model& operator=(const Model&) noexcept = default;

    std::size_t num_inputs() const noexcept;
    std::size_t num_outputs() const noexcept;
    /// Names live as long as the model.
    const std::string& input_name(std::size_t input) const noexcept;
    const std::string& output_name(std::size_t output) const noexcept;
    /// Features of a row; 1 of an input that takes tokens.
    std::size_t input_size(std::size_t input = 0) const noexcept;
    std::size_t output_size(std::size_t output = 0) const noexcept;
    /// 0, or of an input that takes tokens how many there are: 0 to tokens() - 1. Of another, answers are NaN.
    std::size_t tokens(std::size_t input) const noexcept;
    /// Whether sequences are (B, T, ...) rather than (T, B, ...); the file says so. What it says of
    /// the axes of Python's arrays changes nothing here.
    bool batch_first() const noexcept;
    /// Empty, or why rows cannot be taken one by one, so that the model has no streams.
    const std::string& why_no_streams() const noexcept;
    /// So many rows of each input give so many rows of each output, but for the first.
    std::size_t hop_in() const noexcept;
    std::size_t hop_out() const noexcept;
    /// Rows in until every output has had a row, less hop_in(): 0 where nothing looks ahead.
    std::ptrdiff_t delay() const noexcept;
    /// The instruction-set tier that runs it.
    const char* isa() const noexcept;
    /// Bytes of packed weights.
    std::size_t nbytes() const noexcept;

    /// Rows of an output for so many of each input, of a whole sequence; 1 of an answer of the whole sequence. Throws
    /// std::invalid_argument, which names the node, where what comes together has other numbers of rows then.
    std::size_t rows(std::size_t steps, std::size_t output = 0) const;

    /// Whole sequences: of each input (T, B, size), of each output (rows(T), B, size), or (B, T, ...) where
    /// batch_first(), which must not overlap. With `lengths` (B,), each from 0 to T, each sequence is computed as if it
    /// were alone, and answers past its end are zeros. Allocates. Throws std::invalid_argument and std::bad_alloc.
    void run(const Input* inputs, float* const* outputs, std::size_t steps, std::size_t batch = 1,
             const std::size_t* lengths = nullptr) const;

private:
    struct Data;
    explicit Model(std::shared_ptr<const Data> data) noexcept;
    std::shared_ptr<const Data> data_;

    friend class ModelStream;
    friend Model load_model(const std::string& path, const std::string& isa);
    friend Model load_model(const void* data, std::size_t size, const std::string& isa);
};

/// Reads a whole model from a file that Python's fusedcell.save wrote, or from such a file in memory; as load() does.
Model load_model(const std::string& path, const std::string& isa = {});
Model load_model(const void* data, std::size_t size, const std::string& isa = {});

/// The state of one sequence, or of a batch of them, that goes through a model in any pieces; any cut gives the bits of
/// Model::run. For one thread at a time. process(), flush() and reset() are for real-time threads, as Stream's are.
class ModelStream {
public:
    /// For `batch` sequences. process() takes `block` rows at a time, and no fewer than a hop, for which it has memory.
    /// Throws std::invalid_argument where the model has no streams; std::bad_alloc.
    explicit ModelStream(const Model& model, std::size_t batch = 1, std::size_t block = 1);
    /// A copy goes on independently. A stream that was moved from can only be destroyed or assigned to.
    ModelStream(const ModelStream& other);
    ModelStream(ModelStream&& other) noexcept;
    ModelStream& operator=(ModelStream other) noexcept;
    ~ModelStream();

    /// Takes `rows` more rows of each input and writes those rows of each output that there are now and were not
    /// before: (rows, B, size), or (B, rows, size) where model().batch_first(). They must not overlap. Returns how many
    /// rows the first output got, and `counts` gets the same of each. Where a sequence that was reset by itself has
    /// fewer than others, NaN comes first. After flush() it does nothing, until reset().
    std::size_t process(const Input* inputs, std::size_t rows, float* const* outputs,
                        std::size_t* counts = nullptr) noexcept FUSEDCELL_NONBLOCKING;
    /// The same of a model with one input of floats and one output; of any other it does nothing and returns 0.
    std::size_t process(const float* x, std::size_t rows, float* y) noexcept FUSEDCELL_NONBLOCKING;
    /// The rows have ended: likewise of the rows that outputs still lack.
    std::size_t flush(float* const* outputs, std::size_t* counts = nullptr) noexcept FUSEDCELL_NONBLOCKING;
    /// How many rows of an output the next process() will give for so many, or flush().
    std::size_t rows_of_process(std::size_t rows, std::size_t output = 0) noexcept FUSEDCELL_NONBLOCKING;
    std::size_t rows_of_flush(std::size_t output = 0) noexcept FUSEDCELL_NONBLOCKING;
    /// Begins other sequences: all, or after no flush() one of 0 to batch() - 1.
    void reset() noexcept FUSEDCELL_NONBLOCKING;
    void reset(std::size_t row) noexcept FUSEDCELL_NONBLOCKING;
    /// Sequence b goes on from what sequence rows[b] has had, for each of batch(), as beam search does with its
    /// hypotheses. After flush() it does nothing, until reset(). Not for real-time threads: it allocates. Throws
    /// std::invalid_argument for a row that is not there, std::bad_alloc.
    void reorder(const std::size_t* rows);

    const Model& model() const noexcept;
    std::size_t batch() const noexcept;

private:
    struct Data;
    std::unique_ptr<Data> data_;
};

/// The tiers that this machine runs, best first: "avx512vnni", ..., "scalar".
std::vector<std::string> isas();

/// The library's version, "1.2.3".
const char* version() noexcept;

}    // namespace fusedcell
