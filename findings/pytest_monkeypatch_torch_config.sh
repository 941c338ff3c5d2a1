#!/bin/sh
# pytest 9.2.0 with torch 2.13.0: monkeypatch.setattr on one of torch's config modules (torch._inductor.config,
# torch._dynamo.config) does not give the option back. pytest restores what stood in the object's __dict__ (8.4.2: what
# getattr had given), and these modules keep their options elsewhere, so it deletes the option; torch takes the deletion
# as hiding. Every later read in the process raises AttributeError, so whatever compiles
# after that test fails, far from it and depending on the order of tests. Seen: pytest 8.4.2 prints
# "before 2, patched 1, after 2" (the number of threads may differ), pytest 9.2.0 "after gone". torch's own
# config.patch(...) gives it back under both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy pytest==8.4.2
cat >"$folder/test_option.py" <<'PYTHON'
import pytest
import torch._inductor.config as config


def option():
    return getattr(config, "compile_threads", "gone")


def test_option():
    before = option()
    with config.patch(compile_threads=1):
        assert option() == 1
    assert option() == before
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(config, "compile_threads", 1)
        during = option()
    print(f"\npytest {pytest.__version__}: before {before}, patched {during}, after {option()}")
    assert (option() == before) is (pytest.__version__ == "8.4.2")
    assert (option() == "gone") is (pytest.__version__ == "9.2.0")
PYTHON
"$folder/venv/bin/python" -m pytest -q -s -p no:cacheprovider "$folder/test_option.py"
"$folder/venv/bin/pip" install -q pytest==9.2.0
"$folder/venv/bin/python" -m pytest -q -s -p no:cacheprovider "$folder/test_option.py"
