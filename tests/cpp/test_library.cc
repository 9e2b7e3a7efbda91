// What include/fusedcell/fusedcell.h says, on layers small enough to work out by hand. That answers are Python's, and
// that both refuse the same files, is tests/test_cpp_library.py's.
#include "fusedcell/fusedcell.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "check.h"
#include "files.h"

namespace {

using fusedcell::Layer;
using fusedcell::Stream;
using fusedcell::test::file_of;
using fusedcell::test::NamedTensor;

const std::string kRelu = R"({"format_version":1,"class":"RNN","kind":"rnn_relu","dtype":"float32"})";

// h' = relu(2 x + 3 h)
std::vector<NamedTensor> one_unit() { return {{"weight_ih_l0", "[1,1]", {2.0F}}, {"weight_hh_l0", "[1,1]", {3.0F}}}; }

Layer load_one_unit(const std::string& isa = {}) {
    const std::string file = file_of(kRelu, one_unit());
    return fusedcell::load(file.data(), file.size(), isa);
}

// A relu layer whose initial state is `rows` rows from 1 on.
Layer load_with_initial_state(std::size_t rows) {
    std::vector<NamedTensor> tensors = one_unit();
    tensors.push_back({"initial_h", "[1," + std::to_string(rows) + ",1]", {}});
    for (std::size_t row = 0; row < rows; ++row) tensors.back().values.push_back(static_cast<float>(row + 1));
    const std::string file = file_of(kRelu, tensors);
    return fusedcell::load(file.data(), file.size());
}

template <class Error>
void expect_error(const std::function<void()>& call, const std::string& text) {
    try {
        call();
    } catch (const Error& error) {
        if (std::strstr(error.what(), text.c_str()) == nullptr) {
            std::fprintf(stderr, "expected '%s', got '%s'\n", text.c_str(), error.what());
            std::exit(1);
        }
        return;
    }
    std::fprintf(stderr, "expected an error: '%s'\n", text.c_str());
    std::exit(1);
}

void steps_are_those_worked_by_hand_on_every_tier() {
    CHECK(!fusedcell::isas().empty());
    for (const std::string& isa : fusedcell::isas()) {
        const Layer layer = load_one_unit(isa);
        CHECK(layer.isa() == isa);
        Stream stream(layer);
        const float x[3] = {1.0F, 1.0F, -20.0F};
        float y[3] = {};
        stream.step(x, y);
        stream.process(x + 1, y + 1, 2);
        CHECK(y[0] == 2.0F && y[1] == 8.0F && y[2] == 0.0F);
        layer.run(x, y, 3);
        CHECK(y[0] == 2.0F && y[1] == 8.0F && y[2] == 0.0F);
    }
}

// Both rows of a batch as the second would have been, after it alone has had the first row.
void rows_go_on_from_those_that_are_named(const fusedcell::Model& model, const float* x, const std::int32_t* tokens,
                                          const std::vector<float>& expected) {
    fusedcell::ModelStream stream(model, 2);
    const float first_x[2] = {-5.0F, x[0]};
    const std::int32_t first_tokens[2] = {2, tokens[0]};
    const fusedcell::Input first[2] = {first_x, first_tokens};
    float y[2] = {};
    float* outputs = y;
    CHECK(stream.process(first, 1, &outputs) == 0);
    const std::size_t second[2] = {1, 1};
    const std::size_t wrong[2] = {0, 2};
    expect_error<std::invalid_argument>([&] { stream.reorder(wrong); }, "rows: expected from 0 to 1, got 2");
    stream.reorder(second);
    for (int t = 1; t < 3; ++t) {
        const float next_x[2] = {x[t], x[t]};
        const std::int32_t next_tokens[2] = {tokens[t], tokens[t]};
        const fusedcell::Input next[2] = {next_x, next_tokens};
        CHECK(stream.process(next, 1, &outputs) == 1);
        CHECK(y[0] == expected[static_cast<std::size_t>(t - 1)] && y[1] == y[0]);
    }
    CHECK(stream.flush(&outputs) == 1 && y[0] == expected[2] && y[1] == expected[2]);
    stream.reorder(second);
}

// y of a row is x + 2 e + 3 x' + 4 e' with those of the next row, e = 0, 10, 100 by token; h' = relu(y + h).
void a_model_answers_as_worked_by_hand_on_every_tier() {
    const std::string file = fusedcell::test::small_model();
    const float x[3] = {1.0F, 2.0F, 3.0F};
    const std::int32_t tokens[3] = {1, 0, 2};
    const std::vector<float> expected = {27.0F, 438.0F, 641.0F};
    for (const std::string& isa : fusedcell::isas()) {
        const fusedcell::Model model = fusedcell::load_model(file.data(), file.size(), isa);
        CHECK(model.num_inputs() == 2 && model.input_name(1) == "t" && model.tokens(1) == 3 && model.tokens(0) == 0);
        CHECK(model.num_outputs() == 1 && model.output_name(0) == "rnn" && model.output_size() == 1);
        CHECK(model.hop_in() == 1 && model.hop_out() == 1 && model.delay() == 1 && model.rows(3) == 3);
        CHECK(model.why_no_streams().empty() && !model.batch_first() && model.nbytes() > 0 && model.isa() == isa);
        std::vector<float> y(3);
        float* outputs = y.data();
        const fusedcell::Input inputs[2] = {x, tokens};
        model.run(inputs, &outputs, 3);
        CHECK(y == expected);
        for (const std::size_t block : {1, 2, 5}) {
            fusedcell::ModelStream stream(model, 1, block);
            for (int again = 0; again < 2; ++again) {
                y.assign(3, 0.0F);
                std::size_t counts[1] = {7};
                CHECK(stream.process(inputs, 1, &outputs, counts) == 0 && counts[0] == 0);
                const fusedcell::Input rest[2] = {x + 1, tokens + 1};
                CHECK(stream.rows_of_process(2) == 2 && stream.process(rest, 2, &outputs) == 2);
                float* last = y.data() + 2;
                const fusedcell::ModelStream twin(stream);
                CHECK(stream.rows_of_flush() == 1 && stream.flush(&last) == 1 && y == expected);
                CHECK(stream.flush(&last) == 0 && stream.process(rest, 2, &outputs) == 0 && y == expected);
                stream.reset();
            }
        }
    }
    const fusedcell::Model model = fusedcell::load_model(file.data(), file.size());
    rows_go_on_from_those_that_are_named(model, x, tokens, expected);
    expect_error<std::invalid_argument>([&] { fusedcell::ModelStream(model, 0); }, "batch: expected from 1 to 2^31");
    expect_error<fusedcell::LoadError>([] { fusedcell::load_model("no/such/file"); }, "no/such/file: cannot be opened");
    expect_error<fusedcell::LoadError>([&] { fusedcell::load(file.data(), file.size()); }, "got a whole model");
}

void a_layer_says_what_it_is() {
    const std::string isa = fusedcell::isas().back();
    const Layer layer = load_one_unit(isa);
    CHECK(layer.input_size() == 1 && layer.hidden_size() == 1 && layer.output_size() == 1);
    CHECK(layer.num_layers() == 1 && layer.num_directions() == 1);
    CHECK(!layer.reverse() && !layer.has_cell_state() && !layer.batch_first());
    CHECK(std::string(layer.dtype()) == "float32" && layer.isa() == isa);
    CHECK(layer.nbytes() > 0);
    CHECK(std::string(fusedcell::version()).find('.') != std::string::npos);
}

void sequences_are_arranged_as_the_file_says() {
    const std::string description =
        R"({"format_version":1,"class":"RNN","kind":"rnn_relu","dtype":"float32","batch_first":true})";
    const std::string file = file_of(description, one_unit());
    const Layer layer = fusedcell::load(file.data(), file.size());
    CHECK(layer.batch_first());
    const std::vector<float> x = {1.0F, 1.0F, -20.0F, 0.5F, 0.0F, 1.0F};    // two rows of three steps
    const std::vector<float> expected = {2.0F, 8.0F, 0.0F, 1.0F, 3.0F, 11.0F};
    std::vector<float> y(6);
    layer.run(x.data(), y.data(), 3, 2);
    CHECK(y == expected);
    for (const std::size_t block : {1, 2, 3, 4}) {
        Stream stream(layer, 2, block);
        y.assign(6, 0.0F);
        stream.process(x.data(), y.data(), 3);
        CHECK(y == expected && stream.h()[0] == 0.0F && stream.h()[1] == 11.0F);
    }
    Stream one_row(layer, 1, 2);
    one_row.process(x.data(), y.data(), 3);
    CHECK(y[0] == 2.0F && y[1] == 8.0F && y[2] == 0.0F);
}

void streams_share_weights_and_nothing_else() {
    const float x = 1.0F;
    float y = 0.0F;
    auto stream = std::make_unique<Stream>(load_one_unit());
    stream->step(&x, &y);
    Stream copy(*stream);
    stream.reset();
    copy.step(&x, &y);
    CHECK(y == 8.0F);
    Stream moved(std::move(copy));
    moved.step(&x, &y);
    CHECK(y == 26.0F);
    CHECK(moved.batch() == 1 && moved.layer().hidden_size() == 1);
    moved = Stream(moved.layer(), 2);
    CHECK(moved.batch() == 2 && moved.h()[0] == 0.0F);
}

void state_can_be_read_written_and_reset() {
    Stream stream(load_one_unit(), 2);
    CHECK(stream.c() == nullptr);
    stream.h()[1] = 1.0F;
    const float x[2] = {1.0F, 1.0F};
    float y[2] = {};
    stream.step(x, y);
    CHECK(y[0] == 2.0F && y[1] == 5.0F);
    CHECK(stream.h()[0] == 2.0F && std::as_const(stream).h()[1] == 5.0F);
    stream.reset(1);
    CHECK(stream.h()[0] == 2.0F && stream.h()[1] == 0.0F);
    stream.reset();
    CHECK(stream.h()[0] == 0.0F);
}

void calls_start_from_the_initial_state_of_the_file() {
    const float x[2] = {};
    float y[2] = {};
    Stream one_row(load_with_initial_state(1), 2);
    one_row.step(x, y);
    CHECK(y[0] == 3.0F && y[1] == 3.0F);
    one_row.reset();
    CHECK(one_row.h()[0] == 1.0F && one_row.h()[1] == 1.0F);
    const Layer two_rows = load_with_initial_state(2);
    two_rows.run(x, y, 1, 2);
    CHECK(y[0] == 3.0F && y[1] == 6.0F);
    float h[3] = {1.0F, 2.0F, 3.0F};
    const float x3[3] = {};
    float y3[3] = {};
    two_rows.run(x3, y3, 1, 3, h);
    CHECK(y3[2] == 9.0F && h[2] == 9.0F);
    expect_error<std::invalid_argument>([&] { Stream(two_rows, 3); }, "is for a batch of 2, not 3");
    expect_error<std::invalid_argument>([&] { two_rows.run(x, y, 1, 1); }, "is for a batch of 2, not 1");
}

void layers_that_need_the_end_first_have_no_streams() {
    const std::string description =
        R"({"format_version":2,"class":"RNN","kind":"rnn_relu","dtype":"float32","reverse":true})";
    const std::string file = file_of(description, one_unit());
    const Layer layer = fusedcell::load(file.data(), file.size());
    CHECK(layer.reverse());
    expect_error<std::invalid_argument>([&] { Stream{layer}; }, "a reverse layer needs the whole sequence");
    const float x[2] = {1.0F, 2.0F};
    float y[2] = {};
    layer.run(x, y, 2);
    CHECK(y[0] == 14.0F && y[1] == 4.0F);
}

void bad_arguments_are_named() {
    const std::string file = file_of(kRelu, one_unit());
    const auto load = [&](const std::string& isa) { return fusedcell::load(file.data(), file.size(), isa); };
    expect_error<fusedcell::LoadError>([&] { load("mmx"); }, "isa: there is no tier 'mmx'; this machine runs: ");
    expect_error<fusedcell::LoadError>([] { fusedcell::load("/no/such/file"); }, "/no/such/file: cannot be opened: ");
    // Not every system opens folders.
    expect_error<fusedcell::LoadError>([] { fusedcell::load("/"); }, "/: cannot be ");
    expect_error<fusedcell::LoadError>([] { fusedcell::load(nullptr, 0); }, "not a safetensors file: expected 8 bytes");
    expect_error<fusedcell::UnsupportedError>(
        [] {
            const std::string other = file_of(R"({"format_version":4})", {});
            fusedcell::load(other.data(), other.size());
        },
        "format_version=4 is not supported; supported: 1, 2, 3");
    const Layer layer = load_one_unit();
    expect_error<std::invalid_argument>([&] { Stream(layer, 0); }, "batch: expected from 1 to 2^31, got 0");
    expect_error<std::invalid_argument>([&] { Stream(layer, std::size_t(-1)); }, "batch: expected from 1 to 2^31");
    expect_error<std::invalid_argument>([&] { Stream(layer, 1, 0); }, "block: expected from 1 to 2^31, got 0");
}

// Of no bytes, so that nothing but its header is large.
std::string file_with_bias_of(std::uint64_t rows, std::uint64_t columns) {
    std::vector<NamedTensor> tensors = one_unit();
    tensors.push_back({"bias_ih_l0", "[" + std::to_string(rows) + "," + std::to_string(columns) + "]", {}});
    return file_of(kRelu, tensors);
}

void shapes_that_no_memory_has_are_refused_by_name() {
    constexpr std::uint64_t kAddresses = std::uint64_t{1} << (8 * sizeof(void*) - 1);    // that a size can count to
    const std::uint64_t sizes[] = {(std::uint64_t{1} << 48) + 1, std::uint64_t{1} << 62, UINT64_MAX, kAddresses};
    for (const std::uint64_t size : sizes) {
        for (const std::string& file : {file_with_bias_of(0, size), file_with_bias_of(size, 0)}) {
            expect_error<fusedcell::LoadError>([&] { fusedcell::load(file.data(), file.size()); },
                                               "bias_ih_l0: its shape is beyond any memory");
        }
    }
    // 2^32 + 1 is 1 to who counts in 32 bits.
    const std::uint64_t wrapping = (std::uint64_t{1} << 32) + 1;
    const std::string file = file_with_bias_of(wrapping, 0);
    expect_error<fusedcell::LoadError>([&] { fusedcell::load(file.data(), file.size()); },
                                       sizeof(void*) == 4 ? "bias_ih_l0: its shape is beyond any memory"
                                                          : "bias_ih_l0: expected shape (1,), got (4294967297, 0)");
}

void counts_that_no_memory_has_are_refused() {
    const Layer layer = load_one_unit();
    const float x = 1.0F;
    float y = 0.0F;
    if constexpr (sizeof(std::size_t) == 4) {
        const std::size_t first_beyond = std::size_t{1} << 31;
        for (const std::size_t count : {first_beyond, first_beyond - 1, first_beyond / 2}) {
            expect_error<std::bad_alloc>([&] { Stream(layer, count); }, "");
            expect_error<std::bad_alloc>([&] { layer.run(&x, &y, 1, count); }, "");
        }
        expect_error<std::bad_alloc>([&] { Stream(layer, 1, first_beyond); }, "");
        expect_error<std::bad_alloc>([&] { layer.run(&x, &y, first_beyond); }, "");
        expect_error<std::invalid_argument>([&] { Stream(layer, first_beyond + 1); }, "batch: expected from 1 to 2^31");
    } else {
        const std::size_t too_many = (std::size_t{1} << 31) + 1;
        expect_error<std::invalid_argument>([&] { Stream(layer, too_many); },
                                            "batch: expected from 1 to 2^31, got 2147483649");
        expect_error<std::invalid_argument>([&] { layer.run(&x, &y, too_many); },
                                            "steps: expected from 1 to 2^31, got 2147483649");
    }
}

void bytes_need_no_alignment_and_are_not_needed_after_loading() {
    std::string file = "x" + file_of(kRelu, one_unit());
    const Layer layer = fusedcell::load(file.data() + 1, file.size() - 1);
    file.assign(file.size(), '\0');
    const float x = 1.0F;
    float y = 0.0F;
    layer.run(&x, &y, 1);
    CHECK(y == 2.0F);
}

}    // namespace

int main() {
    steps_are_those_worked_by_hand_on_every_tier();
    a_layer_says_what_it_is();
    a_model_answers_as_worked_by_hand_on_every_tier();
    sequences_are_arranged_as_the_file_says();
    streams_share_weights_and_nothing_else();
    state_can_be_read_written_and_reset();
    calls_start_from_the_initial_state_of_the_file();
    layers_that_need_the_end_first_have_no_streams();
    bad_arguments_are_named();
    shapes_that_no_memory_has_are_refused_by_name();
    counts_that_no_memory_has_are_refused();
    bytes_need_no_alignment_and_are_not_needed_after_loading();
    return 0;
}
