// The weight formats, a line each. A format's place is its number, the launchers' `format`; the first are the types of
// values as they are, so that such a number is their `dtype`, too. ops/formats/__init__.py reads the names here.
#pragma once
#include "ops/formats/format.h"

// clang-format off: their order is that of the numbers
#include "ops/formats/float16/format.h"
#include "ops/formats/bfloat16/format.h"
#include "ops/formats/float32/format.h"
#include "ops/formats/e5m7/format.h"
#include "ops/formats/int8/format.h"
#include "ops/formats/fp8/format.h"
#include "ops/formats/int4/format.h"
#include "ops/formats/int4z/format.h"
#include "ops/formats/int4g64/format.h"
#include "ops/formats/int4g32/format.h"
// clang-format on

namespace qwen {

using Formats = QWEN_VL_FORMATS;

template <class Visit, class First, class... Others>
auto visit_format(FormatList<First, Others...>, int number, Visit& visit) {
  if constexpr (sizeof...(Others) > 0) {
    if (number > 0) return visit_format(FormatList<Others...>{}, number - 1, visit);
  }
  return visit(First{});
}

// What `visit` returns for an object of the format's traits.
template <class Visit> auto with_format(int number, Visit visit) { return visit_format(Formats{}, number, visit); }

// Of so many rows of a matrix.
inline int64_t format_bytes(int number, int64_t rows, int64_t columns) {
  return with_format(number, [&](auto format) { return rows * decltype(format)::row_bytes(columns); });
}

template <class... F> int number_of(FormatList<F...>, std::string_view name) {
  int number = 0;
  return ((F::kName == name || (++number, false)) || ...) ? number : -1;
}

// The number of the format of this name, -1 if there is none.
inline int format_number(std::string_view name) { return number_of(Formats{}, name); }

// A plain format's number is the type of its values.
template <class... F> constexpr bool plain_come_first(FormatList<F...>) {
  int number = 0;
  return ((F::kPlain ? F::kValues == number++ : ++number) && ...);
}
static_assert(plain_come_first(Formats{}), "values as they are come first, in the order of their codes");

}  // namespace qwen
