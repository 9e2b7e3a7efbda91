// Files of layers and models, written out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fusedcell::test {

struct NamedTensor {
    std::string name;
    std::string shape;
    std::vector<float> values;
};

// A float32 file as docs/file_format.md describes it.
inline std::string file_of(const std::string& description, const std::vector<NamedTensor>& tensors) {
    std::string header = R"({"__metadata__":{"fusedcell":")";
    for (const char c : description) header += c == '"' ? "\\\"" : std::string(1, c);
    header += "\"}";
    std::string data;
    for (const NamedTensor& tensor : tensors) {
        const std::size_t begin = data.size();
        data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float));
        header += ",\"" + tensor.name + R"(":{"dtype":"F32","shape":)" + tensor.shape + R"(,"data_offsets":[)" +
                  std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
    }
    header += "}";
    std::string size(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) size[i] = static_cast<char>(std::uint64_t{header.size()} >> (8 * i) & 0xffU);
    return size + header + data;
}

/// An embedding of tokens t beside x, a window of this row and the next, and a relu layer.
inline std::string small_model() {
    return file_of(
        R"({"format_version":4,"class":"Model","batch_first":false,"outputs":["rnn"],)"
        R"("inputs":[{"name":"x","size":1},{"name":"t","tokens":3}],"nodes":[)"
        R"({"name":"emb","type":"embedding","inputs":["t"]},)"
        R"({"name":"conv","type":"window","inputs":["x","emb"],"taps":2,"stride":1,"dilation":1,"padding":[0,1],)"
        R"("groups":1,"repeat":1,"positions":0,"activation":null},)"
        R"({"name":"rnn","type":"layer","inputs":["conv"],"layer":{"format_version":1,"class":"RNN",)"
        R"("kind":"rnn_relu","dtype":"float32","batch_first":false}}]})",
        {{"emb.weight", "[3,1]", {0.0F, 10.0F, 100.0F}},
         {"conv.weight", "[1,4]", {1.0F, 2.0F, 3.0F, 4.0F}},
         {"rnn.weight_ih_l0", "[1,1]", {1.0F}},
         {"rnn.weight_hh_l0", "[1,1]", {1.0F}}});
}

}    // namespace fusedcell::test
