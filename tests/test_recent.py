"""What is kept for calls on a GPU is bounded: the entry that was not used for longest goes (ops/paddle/recent.h)."""

import pytest

from tests import cpp

PROGRAM = """
#include <cstdio>
#include <memory>
#include <string>
#include "ops/paddle/recent.h"

struct Entry {
  std::string name;
  ~Entry() { std::printf("%s goes\\n", name.c_str()); }
};

int main() {
  qwen_vl::Recent<std::string, Entry> held(2);
  for (const char* name : {"a", "b", "a", "c", "a", "b"}) {
    Entry& entry = held[name];
    std::printf("%s is %s\\n", name, entry.name.empty() ? "new" : "known");
    entry.name = name;
  }

  qwen_vl::Recent<int, std::shared_ptr<Entry>> shared(1);
  const std::shared_ptr<Entry> user = shared[1] = std::make_shared<Entry>(Entry{"in use"});
  std::puts("moved");
  shared[2];
  std::puts("end");
}
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    return cpp.lines(cpp.program(tmp_path_factory.mktemp("recent"), PROGRAM))


def test_the_entry_not_used_for_longest_goes(lines):
    assert lines[:8] == ["a is new", "b is new", "a is known", "b goes", "c is new", "a is known", "c goes", "b is new"]


def test_what_is_in_use_outlives_its_entry(lines):
    end = lines.index("end")
    assert "in use goes" not in lines[lines.index("moved"):end] and "in use goes" in lines[end:]
