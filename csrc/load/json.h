// JSON (RFC 8259), as much as the headers of layer files need. Written by hand because the library is for devices and
// plugins: it depends on nothing but the standard library and stays small, where a parser for all purposes would be
// larger than everything else that reads a file. A text is checked as a whole, once, and read in place afterwards, so
// that no text makes it allocate more than one string.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fusedcell::json {

// What is wrong with a text, and where.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

// A value in a text that has been checked, and that it does not own.
class Value {
public:
    /// Throws Error for what is not JSON in UTF-8, and for values nested more than kMostDepth deep.
    static Value parse(std::string_view text);
    static constexpr int kMostDepth = 32;

    Kind kind() const;
    bool is_true() const { return text_ == "true"; }
    /// As it stands in the text.
    std::string_view text() const { return text_; }
    /// The characters of a string.
    std::string string() const;
    /// A number, if it is written as a whole one without a sign and fits.
    std::optional<std::uint64_t> whole_number() const;
    /// A number, rounded to the nearest double, if it is not too large for one.
    std::optional<double> number() const;
    /// For errors, as Python writes it; long ones are cut.
    std::string repr() const;

    class Items;
    class Members;
    Items items() const;
    Members members() const;

private:
    explicit Value(std::string_view text) : text_(text) {}
    std::string_view text_;
};

// The elements of an array, one after another.
class Value::Items {
public:
    std::optional<Value> next();

private:
    friend class Value;
    explicit Items(std::string_view rest) : rest_(rest) {}
    std::string_view rest_;    // after the bracket, or after the last item
};

struct Member;

// The members of an object, likewise. A name can come again.
class Value::Members {
public:
    std::optional<Member> next();

private:
    friend class Value;
    explicit Members(std::string_view rest) : rest_(rest) {}
    std::string_view rest_;
};

struct Member {
    std::string name;
    Value value;
};

}    // namespace fusedcell::json
