"""`PYTHON scripts/tests_summary.py REPORT …`: one line about reports of pytest (--junitxml); status 1 if one is none.

Standard library only, and nothing of this project.
"""

import sys
from xml.etree import ElementTree


def summary(*paths):
    """Such as "3 passed, 1 failed in 2.5 s"; raises OSError or ParseError where one is no report."""
    suites = [suite for path in paths for suite in ElementTree.parse(path).getroot().iter("testsuite")]
    total = {name: sum(float(suite.get(name)) for suite in suites)
             for name in ("tests", "failures", "errors", "skipped", "time")}
    counts = {"passed": total["tests"] - total["failures"] - total["errors"] - total["skipped"],
              "failed": total["failures"], "errors": total["errors"], "skipped": total["skipped"]}
    texts = [f"{count:.0f} {name}" for name, count in counts.items() if count] or ["no tests ran"]
    return f"{', '.join(texts)} in {total['time']:.1f} s"


if __name__ == "__main__":
    try:
        print(summary(*sys.argv[1:]))
    except (OSError, ElementTree.ParseError) as e:
        sys.exit(f"error: the tests did not run to their end (no report: {e})")
