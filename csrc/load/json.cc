#include "load/json.h"

#include <charconv>
#include <system_error>

#include "load/decimal.h"

namespace fusedcell::json {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Bytes of the UTF-8 sequence at the front, or 0 for what is none (RFC 3629: no overlong forms, no surrogates).
std::size_t utf8_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto continues = [&](std::size_t first, std::size_t last) {
        for (std::size_t i = first; i <= last; ++i) {
            if (byte(i) < 0x80 || byte(i) > 0xbf) return false;
        }
        return true;
    };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    if (lead >= 0xc2 && lead <= 0xdf) return continues(1, 1) ? 2 : 0;
    if (lead >= 0xe0 && lead <= 0xef) {
        if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f)) return 0;
        return continues(1, 2) ? 3 : 0;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        if ((lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f)) return 0;
        return continues(1, 3) ? 4 : 0;
    }
    return 0;
}

void append_utf8(std::string& text, std::uint32_t code) {
    const auto append = [&](std::uint32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
    const auto append_rest = [&](int shift) { append(0x80U | ((code >> shift) & 0x3fU)); };
    if (code < 0x80) {
        append(code);
    } else if (code < 0x800) {
        append(0xc0U | (code >> 6));
        append_rest(0);
    } else if (code < 0x10000) {
        append(0xe0U | (code >> 12));
        append_rest(6);
        append_rest(0);
    } else {
        append(0xf0U | (code >> 18));
        append_rest(12);
        append_rest(6);
        append_rest(0);
    }
}

// Goes through a text and complains of what is not JSON.
class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}

    std::size_t position() const { return at_; }
    bool at_end() const { return at_ == text_.size(); }

    void skip_space() {
        while (!at_end() && is_space(text_[at_])) ++at_;
    }

    /// Skips space, and the character if it is what comes then.
    bool skip(char c) {
        skip_space();
        if (at_end() || text_[at_] != c) return false;
        ++at_;
        return true;
    }

    void expect(char c) {
        if (!skip(c)) fail(std::string("'") + c + "'");
    }

    /// Returns the value's text.
    std::string_view value(int depth = 0) {
        skip_space();
        const std::size_t first = at_;
        const char c = at_end() ? '\0' : text_[at_];
        if (c == '{' || c == '[') {
            if (depth == Value::kMostDepth) fail("values that are not nested too deeply");
            c == '{' ? object(depth) : array(depth);
        } else if (c == '"') {
            string(nullptr);
        } else if (c == '-' || is_digit(c)) {
            number();
        } else if (!word("true") && !word("false") && !word("null")) {
            fail("a value");
        }
        return text_.substr(first, at_ - first);
    }

    /// A string, whose characters are added to `decoded` where that is given.
    void string(std::string* decoded) {
        expect('"');
        for (;;) {
            if (at_end()) fail("the end of a string");
            const char c = text_[at_];
            if (c == '"') break;
            if (static_cast<unsigned char>(c) < 0x20) fail("no control character in a string");
            if (c == '\\') {
                const std::uint32_t code = escape();
                if (decoded != nullptr) append_utf8(*decoded, code);
                continue;
            }
            const std::size_t length = utf8_length(text_.substr(at_));
            if (length == 0) fail("UTF-8");
            if (decoded != nullptr) decoded->append(text_.substr(at_, length));
            at_ += length;
        }
        ++at_;
    }

private:
    [[noreturn]] void fail(const std::string& expected) const {
        throw Error("expected " + expected + " at byte " + std::to_string(at_));
    }

    void object(int depth) {
        expect('{');
        if (skip('}')) return;
        do {
            skip_space();
            string(nullptr);
            expect(':');
            value(depth + 1);
        } while (skip(','));
        expect('}');
    }

    void array(int depth) {
        expect('[');
        if (skip(']')) return;
        do {
            value(depth + 1);
        } while (skip(','));
        expect(']');
    }

    void digits() {
        if (at_end() || !is_digit(text_[at_])) fail("a digit");
        while (!at_end() && is_digit(text_[at_])) ++at_;
    }

    bool skip_either(char a, char b) {
        if (at_end() || (text_[at_] != a && text_[at_] != b)) return false;
        ++at_;
        return true;
    }

    void number() {
        skip_either('-', '-');
        if (!skip_either('0', '0')) digits();
        if (skip_either('.', '.')) digits();
        if (skip_either('e', 'E')) {
            skip_either('+', '-');
            digits();
        }
    }

    bool word(std::string_view expected) {
        if (text_.substr(at_, expected.size()) != expected) return false;
        at_ += expected.size();
        return true;
    }

    std::uint32_t hex4() {
        std::uint32_t code = 0;
        if (text_.size() - at_ < 4) fail("four hexadecimal digits");
        const char* const first = text_.data() + at_;
        if (std::from_chars(first, first + 4, code, 16).ptr != first + 4) fail("four hexadecimal digits");
        at_ += 4;
        return code;
    }

    std::uint32_t escape() {
        constexpr std::string_view kLetters = "\"\\/bfnrt";
        constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
        ++at_;
        const std::size_t letter = at_end() ? std::string_view::npos : kLetters.find(text_[at_]);
        if (letter != std::string_view::npos) {
            ++at_;
            return static_cast<unsigned char>(kMeanings[letter]);
        }
        if (!word("u")) fail("an escape");
        const std::uint32_t code = hex4();
        if (code < 0xd800 || code > 0xdfff) return code;
        if (code > 0xdbff || !word("\\u")) fail("a pair of surrogates");
        const std::uint32_t low = hex4();
        if (low < 0xdc00 || low > 0xdfff) fail("a pair of surrogates");
        return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

}    // namespace

Value Value::parse(std::string_view text) {
    Reader reader(text);
    const Value value(reader.value());
    reader.skip_space();
    if (!reader.at_end()) throw Error("expected nothing more at byte " + std::to_string(reader.position()));
    return value;
}

Kind Value::kind() const {
    switch (text_.front()) {
        case 'n': return Kind::kNull;
        case 't':
        case 'f': return Kind::kBool;
        case '"': return Kind::kString;
        case '[': return Kind::kArray;
        case '{': return Kind::kObject;
        default: return Kind::kNumber;
    }
}

std::string Value::string() const {
    std::string decoded;
    Reader(text_).string(&decoded);
    return decoded;
}

std::optional<std::uint64_t> Value::whole_number() const {
    std::uint64_t value = 0;
    const char* const begin = text_.data();
    const char* const end = begin + text_.size();
    const std::from_chars_result result = std::from_chars(begin, end, value);
    if (result.ec != std::errc{} || result.ptr != end) return std::nullopt;
    return value;
}

std::optional<double> Value::number() const { return nearest_double(text_); }

std::string Value::repr() const {
    constexpr std::size_t kMost = 60;
    if (text_ == "null") return "None";
    if (text_ == "true") return "True";
    if (text_ == "false") return "False";
    std::string text = kind() == Kind::kString ? "'" + string() + "'" : std::string(text_.substr(0, kMost + 1));
    if (text.size() <= kMost) return text;
    std::size_t end = kMost;
    while ((static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80) --end;    // within a character
    return text.substr(0, end) + "...";
}

Value::Items Value::items() const { return Items(text_.substr(1)); }
Value::Members Value::members() const { return Members(text_.substr(1)); }

std::optional<Value> Value::Items::next() {
    Reader reader(rest_);
    if (reader.skip(']')) return std::nullopt;
    reader.skip(',');
    const Value value(reader.value());
    rest_.remove_prefix(reader.position());
    return value;
}

std::optional<Member> Value::Members::next() {
    Reader reader(rest_);
    if (reader.skip('}')) return std::nullopt;
    reader.skip(',');
    reader.skip_space();
    std::string name;
    reader.string(&name);
    reader.expect(':');
    const Value value(reader.value());
    rest_.remove_prefix(reader.position());
    return Member{std::move(name), value};
}

}    // namespace fusedcell::json
