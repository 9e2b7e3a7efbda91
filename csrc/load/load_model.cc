// Which nodes a model has and which tensors are whose. Features that follow each other are addresses: no node runs for
// them.
#include "load/load_model.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <list>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "cpu/dispatch.h"
#include "kernels/kept.h"
#include "load/fields.h"
#include "load/load.h"
#include "model/checked_stack.h"
#include "model/names.h"

namespace fusedcell {
namespace {

using json::Kind;
using json::Value;

constexpr std::size_t kMostNames = 4096;    // of inputs, of outputs, of nodes and of a node's sources
constexpr std::size_t kMostNameBytes = 200;
constexpr std::int64_t kMost = std::int64_t{1} << 20;    // taps, strides, rows of padding and the like
// Of all rows, windows and what streams keep for them together, so that no short text makes much memory.
constexpr std::int64_t kMostFloats = std::int64_t{1} << 24;

// Of an embedding's rows as a layer's W sees them, which then takes the place of both: small enough for a cache.
constexpr std::ptrdiff_t kMostFoldedFloats = std::ptrdiff_t{1} << 18;

constexpr const char* kWindowOptions = "taps stride dilation padding positions";

class ModelLoader {
public:
    ModelLoader(const KernelTable& kernels, const std::vector<Tensor>& tensors) : kernels_(kernels) {
        for (const Tensor& tensor : tensors) {
            const std::size_t dot = tensor.name.rfind('.');
            if (dot == std::string::npos) refuse_unsupported({quoted(tensor.name), " is not an array of a node"});
            arrays_of_nodes_[tensor.name.substr(0, dot)].emplace(tensor.name.substr(dot + 1), &tensor);
        }
    }

    std::shared_ptr<const Network> load(const Fields& root) {
        for (const Value& value : list_of(root.at("inputs"), kMostNames, "inputs")) add_input(value);
        std::vector<ModelOutput> outputs;
        for (const Value& value : list_of(root.at("outputs"), kMostNames, "outputs")) {
            outputs.push_back({checked_string(value, "outputs"), 0});
            const std::string& name = outputs.back().name;
            if (!outputs_.insert(name).second) refuse({"outputs: ", quoted(name), " comes twice"});
        }
        for (const Value& value : list_of(root.at("nodes"), kMostNames, "nodes")) add_node(value);
        for (const auto& [node, tensors] : arrays_of_nodes_) {
            refuse_unsupported({quoted(tensors.begin()->second->name), " is not an array of a node"});
        }
        for (ModelOutput& output : outputs) {
            const auto found = values_.find(output.name);
            if (found == values_.end() || found->second.value < inputs_.size()) {
                refuse({"outputs: ", quoted(output.name), " is not a node"});
            }
            output.value = found->second.value;
        }
        if constexpr (keeps_node("embedding")) drop_unread_embeddings(outputs);
        return std::make_shared<const Network>(std::move(inputs_), std::move(nodes_), std::move(outputs), kernels_);
    }

private:
    struct Table {
        std::size_t value;
        std::ptrdiff_t entries;
    };

    struct Type {
        using Load = void (ModelLoader::*)(const Type& type);

        // `load` is null where this build leaves the type out.
        constexpr Type(const char* type, Load function, RowKernel KernelTable::* row_kernel, const char* own_vectors,
                       const char* own_options)
            : name(type),
              load(keeps_node(type) ? function : nullptr),
              kernel(row_kernel),
              vectors(own_vectors),
              options(own_options) {}

        const char* name;
        Load load;
        RowKernel KernelTable::* kernel;    // where it has one
        const char* vectors;    // its own beside the matrix: w, which may not be missing where it is W, and b
        const char* options;
    };

    static const auto& types() {
        using L = ModelLoader;
        using T = KernelTable;
        static constexpr Type all[] = {
            {"window", &L::load_window, nullptr, "", "taps stride dilation padding positions groups repeat activation"},
            {"depthwise", &L::load_taps, &T::depthwise, "Wb", kWindowOptions},
            {"max_pool", &L::load_taps, &T::max_pool, "", kWindowOptions},
            {"mean_pool", &L::load_taps, &T::mean_pool, "", kWindowOptions},
            {"embedding", &L::load_embedding, nullptr, "", ""},
            {"activation", &L::load_activation, nullptr, "", "activation"},
            {"add", &L::load_combined, &T::add, "", ""},
            {"multiply", &L::load_combined, &T::multiply, "", ""},
            {"glu", &L::load_combined, &T::glu, "", ""},
            {"scale", &L::load_row, &T::scale, "Wb", ""},
            {"prelu", &L::load_row, &T::prelu, "W", ""},
            {"softmax", &L::load_row, &T::softmax, "", "parts"},
            {"log_softmax", &L::load_row, &T::log_softmax, "", "parts"},
            {"layer_norm", &L::load_row, &T::layer_norm, "wb", "eps parts"},
            {"rms_norm", &L::load_row, &T::rms_norm, "w", "eps parts"},
            {"l2_norm", &L::load_row, &T::l2_norm, "", "eps parts"},
            {"take", &L::load_take, nullptr, "", "repeat"},
            {"rows", &L::load_rows, nullptr, "", "left right"},
            {"last", &L::load_last, nullptr, "", "num_directions"},
            {"mean", &L::load_pool, &T::mean_pool, "", ""},
            {"max", &L::load_pool, &T::max_pool, "", ""},
            {"sum", &L::load_pool, &T::sum_pool, "", ""},
            {"layer", &L::load_layer, nullptr, "", "layer"},
        };
        return all;
    }

    void add_input(const Value& value) {
        const Fields fields = object_of(value, "inputs");
        const bool has_tokens = find(fields, "tokens") != nullptr;
        const std::string what = has_tokens ? "tokens" : "size";
        expect_keys(fields, "name " + what, "inputs");
        const std::string name = new_name(fields, "inputs");
        const std::int64_t number = checked_integer(fields.find(what)->second, 1, kMostFloats, name + "." + what);
        const auto size = static_cast<std::ptrdiff_t>(has_tokens ? 1 : number);
        spend(1, size, name);
        values_[name] = {inputs_.size(), 0, size};
        inputs_.push_back({name, size, static_cast<std::ptrdiff_t>(has_tokens ? number : 0)});
    }

    void add_node(const Value& value) {
        fields_ = object_of(value, "nodes");
        node_ = {};
        node_.name = new_name(fields_, "nodes");
        const std::string name = string_or_repr(find(fields_, "type"));
        const auto* type =
            std::find_if(std::begin(types()), std::end(types()), [&](const Type& t) { return t.name == name; });
        if (type == std::end(types())) {
            std::string known;
            for (const Type& t : types()) known += (known.empty() ? "" : ", ") + std::string(t.name);
            refuse_unsupported({label("type"), ": ", quoted(name), " is not supported; supported: ", known});
        }
        if (type->load == nullptr) {
            refuse_unsupported({label("type"), ": this build of fusedcell leaves out nodes of type ", name});
        }
        const bool is_inside = name == "layer" && find(fields_, "positions") != nullptr;
        expect_keys(fields_, std::string("name type inputs ") + type->options + (is_inside ? " positions" : ""),
                    node_.name);
        set_sources(name == "embedding");
        tensors_.clear();
        if (const auto found = arrays_of_nodes_.find(node_.name); found != arrays_of_nodes_.end()) {
            tensors_ = std::move(found->second);
            arrays_of_nodes_.erase(found);
        }
        floats_.clear();
        (this->*type->load)(*type);
        for (const auto& [left, tensor] : tensors_) {
            refuse_unsupported({quoted(tensor->name), " is not an array of a node of type ", name});
        }
        if (values_.count(node_.name) == 1) return;    // features of another
        values_[node_.name] = {inputs_.size() + nodes_.size(), 0, node_.output_size};
        nodes_.push_back(std::move(node_));
    }

    std::string new_name(const Fields& fields, const std::string& list) const {
        const Value* value = find(fields, "name");
        std::string name = value == nullptr ? "" : checked_string(*value, list + ": name");
        if (name.empty() || name.size() > kMostNameBytes || name.find('\0') != std::string::npos) {
            refuse({list, ": expected a name of 1 to ", std::to_string(kMostNameBytes), " bytes, none of them 0, got ",
                    repr(value)});
        }
        if (values_.count(name) == 1) refuse({list, ": ", quoted(name), " comes twice"});
        return name;
    }

    std::string label(std::string_view argument) const { return joined({node_.name, ".", argument}); }

    [[noreturn]] void fail(std::string_view argument, std::string_view expected, std::string_view got) const {
        refuse({label(argument), ": expected ", expected, ", got ", got});
    }

    // No product of the two may overflow, and what is left of this one is beyond the bound anyway.
    void spend(std::int64_t rows, std::int64_t size, std::string_view name) {
        spent_ += std::min(rows, kMostFloats) * size;
        if (spent_ > kMostFloats) refuse({name, ": rows and windows up to here have more than 2^24 floats together"});
    }

    void set_sources(bool takes_tokens) {
        for (const Value& item : list_of(fields_.at("inputs"), kMostNames, label("inputs"))) {
            const auto found = values_.find(checked_string(item, label("inputs")));
            if (found == values_.end()) fail("inputs", "inputs and nodes before this one", item.repr());
            const Part part = found->second;
            const bool is_tokens = part.value < inputs_.size() && inputs_[part.value].tokens > 0;
            if (is_tokens && !takes_tokens) fail("inputs", "no tokens, which an embedding alone takes", item.repr());
            if (takes_tokens && (!is_tokens || !node_.source.empty())) {
                fail("inputs", "one input of tokens", fields_.at("inputs").repr());
            }
            spend(1, part.size, node_.name);
            node_.source.push_back(part);
        }
        size_ = node_.input_size();
    }

    std::int64_t option(const char* key, std::int64_t least, std::int64_t most) const {
        return checked_integer(fields_.at(key), least, most, label(key));
    }
    std::optional<Activation> activation() const {
        const Value& value = fields_.at("activation");
        if (value.kind() == Kind::kNull) return std::nullopt;
        const Activation activation = parse_activation(value, true, label("activation"));
        if (!is_kept(activation.kind)) {
            refuse_unsupported({label("activation"), ": this build of fusedcell leaves out the activation ",
                                name_of(activation.kind)});
        }
        return activation;
    }

    // Only matrices are narrower than float32.
    NamedArray array(const char* name, bool is_matrix = false) {
        const Tensor* tensor = take(tensors_, name);
        if (tensor == nullptr) refuse({label(name), " is missing"});
        if (tensor->type != StoredType::kF32 && !is_matrix) fail(name, "dtype float32", name_of(tensor->type));
        floats_.push_back(tensor->floats());
        return {tensor->name, floats_.back().data(), tensor->shape};
    }

    // Empty where there is none.
    std::vector<float> vector_of(const char* name, const Shape& shape, bool must_be_there = false) {
        if (!must_be_there && tensors_.count(name) == 0) return {};
        const NamedArray found = array(name);
        found.expect_shape(shape);
        found.expect_finite();
        return std::move(floats_.back());
    }

    // (rows, columns), where `columns` says how many, or that any number will do.
    NamedMatrix matrix(std::optional<std::ptrdiff_t> columns) {
        const auto tensor = tensors_.find("weight");
        const bool has_int16_inputs = tensors_.count("weight_scale_int16") == 1;
        const WeightType type =
            tensor == tensors_.end() ? WeightType::float32 : weight_type_of(tensor->second->type, has_int16_inputs);
        NamedMatrix found{array("weight", true), std::nullopt, type};
        const char* scale = has_int16_inputs ? "weight_scale_int16" : "weight_scale";
        if (is_quantised(type) || tensors_.count(scale) == 1) found.scales = array(scale);
        const Shape& shape = found.values.shape;
        if (shape.size() != 2 || shape[0] < 1 || shape[1] != columns.value_or(std::max<std::ptrdiff_t>(shape[1], 1))) {
            const std::string rows = shape.size() == 2 && shape[0] > 0 ? std::to_string(shape[0]) : "rows";
            const std::string size = columns ? std::to_string(*columns) : "columns";
            refuse({shape_error(found.values.name, "(" + rows + ", " + size + ")", to_text(shape))});
        }
        found.expect_valid();
        return found;
    }

    void expect_divisible(std::int64_t number, std::int64_t divisor, const char* what, const char* key) const {
        if (number % divisor == 0) return;
        fail(key, "a divisor of " + std::to_string(number) + " " + what, std::to_string(divisor));
    }

    Window window() const {
        Window window;
        window.taps = option("taps", 1, kMost);
        window.stride = option("stride", 1, kMost);
        window.dilation = option("dilation", 1, kMost);
        const std::vector<Value> padding = list_of(fields_.at("padding"), 2, label("padding"));
        if (padding.size() != 2) fail("padding", "two numbers", fields_.at("padding").repr());
        window.left = checked_integer(padding[0], -kMost, kMost, label("padding"));
        window.right = checked_integer(padding[1], -kMost, kMost, label("padding"));
        return window;
    }

    void set_operation(std::shared_ptr<const Operation> operation, const Window& window = {}) {
        node_.output_size = operation->output_size() / static_cast<std::ptrdiff_t>(window.repeat);
        node_.window = window;
        node_.operation = std::move(operation);
    }

    // Those of its source that streams keep for it.
    void spend_rows(const Window& window) {
        spend(window.span() + std::abs(window.left) + std::abs(window.right), size_, node_.name);
    }

    // Windows along the stream, or inside each row. `make` makes the operation, of features of a row or of a position.
    template <class Make>
    void set_windows(const Window& window, const Make& make) {
        const std::int64_t positions = option("positions", 0, kMost);
        spend(window.taps, size_, node_.name);
        if (positions == 0) {
            spend_rows(window);
            return set_operation(make(size_), window);
        }
        expect_divisible(size_, positions, "features", "positions");
        if (window.repeat != 1) fail("repeat", "1 with positions", std::to_string(window.repeat));
        if (std::min(window.left, window.right) < 0) {
            fail("padding", "0 or more inside rows", fields_.at("padding").repr());
        }
        const std::int64_t windows = window.windows(positions, true);
        if (windows < 1) {
            const std::int64_t padded = positions + window.left + window.right;
            fail("taps", "a window of at most " + std::to_string(padded) + " positions", std::to_string(window.span()));
        }
        const std::ptrdiff_t features = size_ / static_cast<std::ptrdiff_t>(positions);
        spend(window.left + window.right + windows * window.taps, features, node_.name);
        std::shared_ptr<const Operation> operation = make(features);
        spend(windows, operation->output_size(), node_.name);
        set_operation(make_inside(std::move(operation), window, static_cast<std::ptrdiff_t>(positions)));
    }

    void load_window(const Type&) {
        Window window = this->window();
        window.repeat = option("repeat", 1, kMost);
        const std::int64_t groups = option("groups", 1, kMostFloats);
        const std::optional<Activation> function = activation();
        set_windows(window, [&](std::ptrdiff_t features) {
            expect_divisible(features, groups, "features", "groups");
            const auto taps = static_cast<std::ptrdiff_t>(window.taps);
            const NamedMatrix weight = matrix(taps * (features / static_cast<std::ptrdiff_t>(groups)));
            const std::ptrdiff_t outputs = weight.values.shape[0];
            expect_divisible(outputs, groups, "outputs", "groups");
            expect_divisible(outputs, window.repeat, "outputs", "repeat");
            const std::vector<float> bias = vector_of("bias", {outputs});
            const LinearWeights weights{weight.view(), bias.empty() ? nullptr : bias.data(), outputs, taps,
                                        features,      static_cast<std::ptrdiff_t>(groups)};
            try {
                return make_linear(weights, function ? &*function : nullptr, kernels_);
            } catch (const std::invalid_argument& error) {
                refuse_unsupported({label("weight"), ": ", error.what()});
            }
        });
    }

    std::shared_ptr<const Operation> row_operation(const Type& type, const RowShape& shape, const Shape& weight_shape,
                                                   std::ptrdiff_t output_size, double epsilon = 0.0) {
        const std::string_view vectors = type.vectors;
        std::vector<float> weight;
        std::vector<float> bias;
        if (!vectors.empty()) weight = vector_of("weight", weight_shape, vectors[0] == 'W');
        if (vectors.size() == 2) bias = vector_of("bias", {weight_shape.back()});
        return make_row_operation(kernels_.*type.kernel, shape, output_size, std::move(weight), std::move(bias),
                                  static_cast<float>(epsilon));
    }

    void load_taps(const Type& type) {
        const Window window = this->window();
        if (type.kernel == &KernelTable::max_pool && std::max(window.left, window.right) > 0) {
            fail("padding", "0 or less, as zeros would be in the maximum", fields_.at("padding").repr());
        }
        set_windows(window, [&](std::ptrdiff_t features) {
            const auto taps = static_cast<std::ptrdiff_t>(window.taps);
            return row_operation(type, {taps, features}, {taps, features}, features);
        });
    }

    void load_embedding(const Type&) {
        const ModelInput& input = inputs_[node_.source.front().value];
        const NamedMatrix table = matrix(std::nullopt);
        if (table.type == WeightType::int8_int16) {
            fail("weight", "weight_scale, as a token is no input to round", "weight_scale_int16");
        }
        const Shape& shape = table.values.shape;
        if (shape[0] < input.tokens) {
            fail("weight", std::to_string(input.tokens) + " rows or more, one for each token of " + quoted(input.name),
                 std::to_string(shape[0]));
        }
        set_operation(make_embedding(table.view(), shape[0], shape[1]));
        tables_.push_back({inputs_.size() + nodes_.size(), shape[0]});
    }

    // A layer that reads nothing but an embedding takes its tokens, if its projection of the whole table is small.
    void fold_embedding(Stack& layer) {
        const Part part = node_.source.front();
        const auto is_it = [&](const Table& table) { return table.value == part.value; };
        const auto table = std::find_if(tables_.begin(), tables_.end(), is_it);
        if (table == tables_.end() || node_.source.size() > 1) return;
        const ModelNode& embedding = nodes_[part.value - inputs_.size()];
        const std::ptrdiff_t floats = layer.folded_floats(table->entries);
        const std::int64_t most = std::min<std::int64_t>(kMostFoldedFloats, kMostFloats - spent_);
        if (part.size != embedding.output_size || floats > most) return;
        spend(1, floats, node_.name);
        std::vector<float> rows(count_of<float>(table->entries, part.size));
        OperationSpace space;
        for (std::ptrdiff_t i = 0; i < table->entries; ++i) {
            const auto token = static_cast<float>(i);
            const LinearRow row{&token, rows.data() + i * part.size};
            embedding.operation->run(&row, 1, space);
        }
        layer.fold_inputs(rows.data(), table->entries);
        node_.source = embedding.source;
    }

    void drop_unread_embeddings(std::vector<ModelOutput>& outputs) {
        const auto for_each_value = [&](const auto& function) {
            for (ModelNode& node : nodes_) {
                for (Part& part : node.source) function(part.value);
            }
            for (ModelOutput& output : outputs) function(output.value);
        };
        std::vector<std::size_t> is_kept(inputs_.size() + nodes_.size() + 1, 1);
        for (const Table& table : tables_) is_kept[table.value] = 0;
        for_each_value([&](std::size_t value) { is_kept[value] = 1; });
        std::vector<std::size_t> places(is_kept.size());
        std::partial_sum(is_kept.begin(), is_kept.end() - 1, places.begin() + 1);
        for_each_value([&](std::size_t& value) { value = places[value]; });
        std::vector<ModelNode> kept;
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
            if (is_kept[inputs_.size() + i] == 1) kept.push_back(std::move(nodes_[i]));
        }
        nodes_ = std::move(kept);
    }

    void load_activation(const Type&) {
        const std::optional<Activation> function = activation();
        if (!function) fail("activation", "an activation", "None");
        set_operation(make_activation(*function, size_, kernels_));
    }

    void load_combined(const Type& type) {
        const bool is_glu = type.kernel == &KernelTable::glu;
        const auto parts = is_glu ? 2 : static_cast<std::ptrdiff_t>(node_.source.size());
        const std::ptrdiff_t size = size_ / parts;
        bool fits = parts > 1 && size_ % parts == 0;
        std::string sizes;
        for (const Part& part : node_.source) {
            fits = fits && (is_glu || part.size == size);
            sizes += (sizes.empty() ? "" : ", ") + std::to_string(part.size);
        }
        if (!fits) fail("inputs", is_glu ? "an even number of features" : "two or more with equal features", sizes);
        set_operation(row_operation(type, {parts, size}, {}, size));
    }

    void load_row(const Type& type) {
        RowShape shape{1, size_};
        if (find(fields_, "parts") != nullptr) {
            shape.parts = static_cast<std::ptrdiff_t>(option("parts", 1, kMostFloats));
            expect_divisible(size_, shape.parts, "features", "parts");
            shape.size = size_ / shape.parts;
        }
        double epsilon = 0.0;
        if (const Value* eps = find(fields_, "eps")) {
            epsilon = checked_float32(*eps, label("eps"));
            if (epsilon < 0.0) fail("eps", "0 or more", eps->repr());
        }
        set_operation(row_operation(type, shape, {size_}, size_, epsilon));
    }

    void load_take(const Type&) {
        const Shape shape = array("indices").shape;
        if (shape.size() != 1 || shape[0] < 1) fail("indices", "shape (size,)", to_text(shape));
        std::vector<std::ptrdiff_t> indices;
        for (const float number : floats_.back()) {
            if (!(number >= 0.0F && number < static_cast<float>(size_)) || std::floor(number) != number) {
                fail("indices", "whole numbers from 0 to " + std::to_string(size_ - 1),
                     number_text(static_cast<double>(number)) + " at index " + std::to_string(indices.size()));
            }
            indices.push_back(static_cast<std::ptrdiff_t>(number));
        }
        Window window;
        window.repeat = option("repeat", 1, kMost);
        expect_divisible(shape[0], window.repeat, "indices", "repeat");
        if (window.repeat == 1 && outputs_.count(node_.name) == 0 && is_part(indices)) return;
        set_operation(make_take(std::move(indices), size_), window);
    }

    // Whether they follow each other in one value, where later nodes find them then.
    bool is_part(const std::vector<std::ptrdiff_t>& indices) {
        const auto is_gap = [](std::ptrdiff_t a, std::ptrdiff_t b) { return b != a + 1; };
        if (std::adjacent_find(indices.begin(), indices.end(), is_gap) != indices.end()) return false;
        std::ptrdiff_t first = indices.front();
        for (const Part& part : node_.source) {
            if (first >= 0 && indices.back() - indices.front() + first < part.size) {
                values_[node_.name] = {part.value, part.first + first, static_cast<std::ptrdiff_t>(indices.size())};
                return true;
            }
            first -= part.size;
        }
        return false;
    }

    void load_rows(const Type&) {
        Window window;
        window.left = option("left", -kMost, kMost);
        window.right = option("right", -kMost, kMost);
        spend_rows(window);
        std::vector<std::ptrdiff_t> indices(static_cast<std::size_t>(size_));
        std::iota(indices.begin(), indices.end(), 0);
        set_operation(make_take(std::move(indices), size_), window);
    }

    void load_last(const Type&) {
        node_.kind = ModelNode::Kind::kLast;
        node_.output_size = size_;
        if (option("num_directions", 1, 2) == 1) return;
        expect_divisible(size_, 2, "features", "num_directions");
        node_.reversed_from = size_ / 2;
    }

    void load_pool(const Type& type) {
        node_.kind = ModelNode::Kind::kPool;
        node_.output_size = size_;
        node_.pool = kernels_.*type.kernel;
    }

    void load_layer(const Type&) {
        std::vector<Tensor> tensors;
        for (const auto& [name, tensor] : tensors_) {
            tensors.push_back(*tensor);
            tensors.back().name = name;
        }
        tensors_.clear();
        LoadedLayer layer;
        try {
            layer = make_layer(Description::parse(object_of(fields_.at("layer"), "layer")), tensors, kernels_);
        } catch (const UnsupportedError& error) {
            refuse_unsupported({node_.name, ": ", error.what()});
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& error) {
            refuse({node_.name, ": ", error.what()});
        }
        if (layer.is_cell) fail("layer", "a layer", "a cell");
        if (layer.initial_rows > 1) fail("initial_h", "one row, for all sequences", std::to_string(layer.initial_rows));
        const NodeShape& shape = layer.stack->shape();
        const bool is_inside = find(fields_, "positions") != nullptr;
        const auto positions = static_cast<std::ptrdiff_t>(is_inside ? option("positions", 1, kMost) : 1);
        if (size_ % positions != 0 || shape.input_size != size_ / positions) {
            fail("inputs",
                 (is_inside ? std::to_string(positions) + " times " : "") + std::to_string(shape.input_size) +
                     " features",
                 std::to_string(size_));
        }
        if (is_inside) {
            spend(positions, shape.output_size, node_.name);
            return set_operation(make_layer_inside(std::move(layer.stack), std::move(layer.initial_h),
                                                   std::move(layer.initial_c), positions));
        }
        node_.kind = ModelNode::Kind::kLayer;
        node_.output_size = shape.output_size;
        if constexpr (keeps_node("embedding")) fold_embedding(*layer.stack);
        node_.layer = std::move(layer.stack);
        node_.initial_h = std::move(layer.initial_h);
        node_.initial_c = std::move(layer.initial_c);
    }

    const KernelTable& kernels_;
    std::map<std::string, TensorsByName> arrays_of_nodes_;    // that are left
    std::map<std::string, Part> values_;
    std::set<std::string> outputs_;
    std::vector<ModelInput> inputs_;
    std::vector<ModelNode> nodes_;
    std::vector<Table> tables_;    // of the embeddings among them
    std::int64_t spent_ = 0;       // floats of rows and windows

    // Of the node that is being made.
    Fields fields_;
    TensorsByName tensors_;                   // that are left
    std::list<std::vector<float>> floats_;    // theirs
    ModelNode node_;
    std::ptrdiff_t size_ = 0;    // features of its sources
};

}    // namespace

LoadedModel load_network(const unsigned char* data, std::size_t size, const std::string& isa) {
    return in_default_environment([&] {
        const Header header = parse_header(data, size, size);
        const Fields root = parse_description(description_of(header));
        const std::string name = string_or_repr(find(root, "class"));
        if (name != "Model") {
            refuse({"expected a whole model, got class=", quoted(name),
                    ": fusedcell::load reads layers, and in Python fusedcell.load both"});
        }
        const std::string version = repr(find(root, "format_version"));
        if (version != "4")
            refuse_unsupported({"format_version=", version, " of a model is not supported; supported: 4"});
        const Value* axes = find(root, "axes");
        expect_keys(root, std::string("format_version class batch_first inputs outputs nodes") + (axes ? " axes" : ""),
                    "the header's entry 'fusedcell'");
        const bool batch_first = checked_bool(root.at("batch_first"), "batch_first");
        LoadedModel model{ModelLoader(select_tier(isa), tensors_of(header, data)).load(root), batch_first, {}};
        if (kChecksAxes && axes != nullptr) model.axes = read_axes(*axes, *model.model);
        return model;
    });
}

bool holds_model(const unsigned char* data, std::size_t size) {
    try {
        const Header header = parse_header(data, size, size);
        return header.description && string_or_repr(find(parse_description(*header.description), "class")) == "Model";
    } catch (const LoadError&) {
        return false;
    }
}

}    // namespace fusedcell
