#!/bin/sh
# scipy 1.17.1, scrambled low-discrepancy sequences with the same number as their seed, as a search uses them that may
# get a parameter more later:
# - scipy.stats.qmc.Halton(d + 1) has the columns of Halton(d) and one more, so the points that were tried stay points of
#   the larger search; of Sobol(d + 1) no column is one of Sobol(d), though unscrambled sequences of Sobol keep theirs.
# - Sobol(d, rng=0) and Sobol(d, seed=0) are different points, and so are Halton's: the same number seeds a Generator in
#   the one and the legacy RandomState in the other, without a warning.
# - What holds as one would expect: fast_forward, reset and drawing in parts give the points of one call, of both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scipy==1.17.1 numpy
"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np
import scipy
from scipy.stats import qmc

print(scipy.__version__)
POINTS = 64


def shared(smaller, larger):
    """How many columns of the smaller are columns of the larger."""
    return sum(any(np.array_equal(own, other) for other in larger.T) for own in smaller.T)


for d in (1, 2, 5, 10):
    found = {}
    for sequence in (qmc.Sobol, qmc.Halton):
        for scramble in (True, False):
            own, more = (
                sequence(size, scramble=scramble, rng=0).random(POINTS) for size in (d, d + 1)
            )
            found[sequence.__name__, scramble] = shared(own, more)
    print(f"d={d}: columns of d that d + 1 has:", found)
    assert found["Halton", True] == found["Halton", False] == found["Sobol", False] == d
    assert found["Sobol", True] == 0

for sequence in (qmc.Sobol, qmc.Halton):
    whole = sequence(3, rng=0).random(POINTS)
    assert not np.array_equal(whole, sequence(3, seed=0).random(POINTS)), "seed= and rng= agree"
    parts = sequence(3, rng=0)
    assert np.array_equal(np.vstack([parts.random(16), parts.random(48)]), whole)
    parts.reset()
    parts.fast_forward(16)
    assert np.array_equal(parts.random(48), whole[16:])
print("as described")
PYTHON
