"""An import without searches: what it changes is back afterwards, and nothing has been searched."""

import gc
import inspect
import subprocess
import sys

import pytest

from sweepwise.run.load import without_searches


def test_all_is_back_afterwards_whatever_happens():
    search = inspect.getmodule
    gc.unfreeze()
    with without_searches():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() > 0 and inspect.getmodule is search
    gc.unfreeze()
    with pytest.raises(ImportError), without_searches():
        raise ImportError
    assert gc.isenabled() and gc.get_freeze_count() == 0 and inspect.getmodule is search


def test_a_frame_is_in_the_module_that_inspect_finds_and_no_path_is_resolved(monkeypatch):
    frame = inspect.currentframe()
    things = [frame, frame.f_back, inspect, pytest.Item, test_all_is_back_afterwards_whatever_happens]
    expected = [inspect.getmodule(thing) for thing in things]
    nowhere = eval("inspect.currentframe()", {"inspect": inspect})
    with without_searches():
        assert [inspect.getmodule(thing) for thing in things] == expected
        assert inspect.getmodule(nowhere) in (None, sys.modules["builtins"])
        monkeypatch.setattr(inspect, "getabsfile", lambda *_: pytest.fail("a path was looked for"))
        assert inspect.getmodule(frame) is sys.modules[__name__]


def test_the_command_line_imports_torch_so():
    """1,300 modules are searched otherwise."""
    count = (
        "import inspect, sys; found = inspect.getabsfile; paths = []\n"
        "inspect.getabsfile = lambda *given: paths.append(given) or found(*given)\n"
        "from sweepwise.run import load; load.trainer(); print('torch' in sys.modules, len(paths))"
    )
    done = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0"]
