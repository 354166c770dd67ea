// What was used last, and no more of it than so many.
#pragma once
#include <algorithm>
#include <cstddef>
#include <list>
#include <tuple>
#include <utility>

namespace qwen_vl {

// A map of a few entries: beyond `most` of them, that which was not used for longest is destroyed.
template <typename Key, typename Value>
class Recent {
 public:
  explicit Recent(size_t most) : most_(most) {}

  // The value of `key`, made by its default constructor where there is none; valid until `most` others are used.
  Value& operator[](const Key& key) {
    const auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const auto& e) { return e.first == key; });
    if (entry != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, entry);
    } else {
      entries_.emplace_front(std::piecewise_construct, std::forward_as_tuple(key), std::forward_as_tuple());
      if (entries_.size() > most_) entries_.pop_back();
    }
    return entries_.front().second;
  }

 private:
  size_t most_;
  std::list<std::pair<const Key, Value>> entries_;  // the last used first
};

}  // namespace qwen_vl
