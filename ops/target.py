"""What a compiled library was built for, and whether it is one for this machine.

The build puts the description into the library itself, as JSON behind MARK. It is read from the file, without loading
it: code for another CPU ends the process. Standard library only, as a copy of this file goes into paddlenlp_ops.
"""

import json
import mmap
import re

MARK = b"qwen_vl_built_for="
# Sets that a compiler uses by itself, spelled as its macros are, in lower case and without underscores.
INSTRUCTION_SET = re.compile(r"(s?sse|avx|amx|fma|f16c|bmi|lzcnt|movbe|popcnt|gfni|vaes|vpclmul|xop|tbm)(?!\w*math)\w*")
SPELLED_IN_CPUINFO = {"pni": "sse3", "abm": "lzcnt", "bmi1": "bmi"}
CPUINFO = "/proc/cpuinfo"


def instruction_sets(names):
    """The instruction sets among compiler macros (AVX512VNNI) or flags of /proc/cpuinfo (avx512_vnni): sorted names."""
    spelled = {SPELLED_IN_CPUINFO.get(name, name.lower().replace("_", "")) for name in names}
    return sorted(filter(INSTRUCTION_SET.fullmatch, spelled))


def cpu():
    """The instruction sets of this CPU; none where the kernel does not say."""
    try:
        with open(CPUINFO, encoding="utf-8", errors="replace") as f:
            flags = next((line for line in f if re.match(r"flags\s*:", line)), "")
    except OSError:
        flags = ""
    return instruction_sets(flags.partition(":")[2].split())


def read(library):
    """What the file `library` was built for, see ops.build.describe; {} if it does not say. Raises OSError."""
    with open(library, "rb") as f:
        try:
            with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
                start = content.find(MARK)
                return json.loads(content[start + len(MARK):content.find(b"\0", start)]) if start >= 0 else {}
        except ValueError:  # an empty file, or a description that is not whole
            return {}


def code_for(built, capability):
    """The code that a card of compute capability (major, minor) runs: "sm_90a", "compute_90" (PTX, which the driver
    translates), or None if the library has none."""
    number, codes = capability[0] * 10 + capability[1], built["architectures"]
    if f"{number}a" in codes:
        return f"sm_{number}a"
    older = [int(code) for code in codes if code.isdigit() and int(code) // 10 == capability[0] and int(code) <= number]
    if older:
        return f"sm_{max(older)}"
    return f"compute_{built['ptx']}" if built["ptx"] and int(built["ptx"]) <= number else None


def fault(built, paddle=None, capability=None):
    """Why a library built for `built` is none for this machine, what follows "<library> …"; None if it is one.

    paddle: the wheel that would load it ("paddlepaddle 2.6.2"); capability: compute capability of the card that it
    shall run on, (major, minor). None leaves either unasked.
    """
    if not built:
        return "does not say what it was built for"
    here = cpu()
    lacking = [name for name in built["instructions"] if here and name not in here]
    if lacking:
        return f"was built for a CPU with {_some(lacking)}, which this one does not have"
    unused = [name for name in here if built["march"] == "native" and name not in built["cpu"]]
    if unused:
        return f"was built on a CPU without {_some(unused)}, which this one has and would not use"
    if paddle and built["paddle"] != paddle:
        return f"was built for {built['paddle']}, this is {paddle}"
    if capability and code_for(built, capability) is None:
        codes = ", ".join(f"sm_{code}" for code in built["architectures"]) or "the CPU alone"
        return f"was built for {codes}, this GPU has compute capability {capability[0]}.{capability[1]}"
    return None


def _some(names):
    return ", ".join(names[:3]) + " …" * (len(names) > 3)
