#!/bin/sh
# hydra-core 1.3.8: sort() of a range gives values that are not in the range. The documentation says "Sorts an input sweep"
# and shows sort(range(1,10)); with any step that does not divide stop - start, the sorted range begins one step before stop
# instead of at its last value: sort(range(1,10,4),reverse=true) is 6,2,-2, while range(1,10,4) is 1,5,9, and
# sort(range(10,1,-4)) is 5,9,13. With fractions the same, by binary arithmetic besides: range(0.1,0.5,0.1) holds
# 0.30000000000000004, range(0,1.1,0.1) ends with 1.1, its stop, which a range excludes. A sweep trains such values.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q hydra-core==1.3.8
"$folder/venv/bin/python" - <<'PYTHON'
import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser


def values(written):
    return list(OverridesParser.create().parse_override(f"key={written}").sweep_iterator())


print(hydra.__version__)
for plain, written in {
    "range(1,10,4)": "sort(range(1,10,4),reverse=true)",
    "range(10,1,-4)": "sort(range(10,1,-4))",
}.items():
    print(plain, values(plain), written, values(written))
    assert sorted(values(plain)) != sorted(values(written))
assert values("sort(range(1,10,4),reverse=true)") == [6, 2, -2]
print(values("range(0.1,0.5,0.1)"), values("range(0,1.1,0.1)"))
assert values("range(0.1,0.5,0.1)")[2] == 0.30000000000000004
assert values("range(0,1.1,0.1)")[-1] == 1.1
PYTHON
