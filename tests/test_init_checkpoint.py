import hashlib
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small import CONF, SMALL
from torch import nn

from sweepwise import run
from sweepwise.cli import composed
from sweepwise.data.loading import evaluation_batches
from sweepwise.errors import UsageError
from sweepwise.init import initialize_
from sweepwise.init.checkpoint import Checkpoint
from sweepwise.store import record
from sweepwise.store.stamp import stamped

SHORT = [*SMALL, "model.norm=batch", "monitor=none", "trainer.max_epochs=2"]


def network(outputs: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))


def trained(seed: int = 7) -> nn.Sequential:
    model = network(seed=seed)
    model(torch.randn(16, 4))
    return model


@pytest.fixture
def file(tmp_path) -> Path:
    save_file(trained().state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def load(model: nn.Module, path: Path | str, **options) -> dict[str, str]:
    return initialize_(model, partial(Checkpoint, path=str(path), **options), seed=0)


def refusal(model: nn.Module, path: Path | str, **options) -> str:
    with pytest.raises(ValueError) as refused:
        load(model, path, **options)
    text = str(refused.value)
    assert text.startswith(f"init.path={path}: ") and "\n" not in text
    return text.removeprefix(f"init.path={path}: ")


@pytest.mark.parametrize("strict", [True, False])
def test_weights_of_a_run_that_are_not_as_it_wrote_them_are_refused(file, strict):
    whole = stamped(3, file.read_bytes())
    file.write_bytes(whole)
    assert set(load(network(), file)) == set(trained().state_dict())
    for place in (-1, -100, whole.index(b"sha256") + 10):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert refusal(network(), file, strict=strict).startswith("is not as a run wrote it, with sha256 ")


@pytest.mark.parametrize("names", [("step", "sha256"), ("sha256", "step")])
def test_weights_that_keep_the_stamp_of_others_are_refused_in_whatever_order_it_stands(file, names):
    with safe_open(_stamped(file), "pt") as opened:
        metadata = opened.metadata()
    header = {"__metadata__": {name: metadata[name] for name in names}}
    header["weight"] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    assert refusal(nn.Linear(1, 1), file, strict=False).startswith("is not as a run wrote it, with sha256 ")


def _stamped(file: Path) -> Path:
    file.write_bytes(stamped(3, file.read_bytes()))
    return file


@pytest.mark.parametrize("strict", [True, False])
def test_parameters_and_buffers_come_back_bit_for_bit(file, strict):
    model, source = network(), trained()
    told = load(model, file, strict=strict)
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert set(told) == set(source.state_dict())
    assert set(told.values()) == {f"checkpoint sha256 {digest(file)}"}
    x = torch.randn(5, 4)
    assert torch.equal(model.eval()(x), source.eval()(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_cast_and_the_record_says_so(tmp_path, dtype):
    source = trained().to(dtype)
    save_file(source.state_dict(), tmp_path / "w")
    model = network()
    told = load(model, tmp_path / "w")
    assert torch.equal(model[0].weight, source[0].weight.float())
    assert told["0.weight"] == f"checkpoint sha256 {digest(tmp_path / 'w')}, was {str(dtype).split('.')[1]}"
    assert told["1.num_batches_tracked"] == f"checkpoint sha256 {digest(tmp_path / 'w')}"


def test_all_that_does_not_fit_is_told_at_once(tmp_path):
    state = trained().state_dict()
    state["extra"] = torch.zeros(2)
    state["3.weight"] = torch.zeros(5, 8)
    state["1.num_batches_tracked"] = torch.tensor(1.0)
    del state["0.bias"], state["1.running_var"]
    save_file(state, tmp_path / "w")
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    text = refusal(model, tmp_path / "w")
    assert text == (
        "does not fit the model (init.strict=false copies what fits): "
        "0.bias is missing; 1.running_var is missing; extra is not in the model; "
        "3.weight is float32 (5, 8) in the file, float32 (3, 8) in the model; "
        "1.num_batches_tracked is float32 () in the file, int64 () in the model"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    told = load(model, tmp_path / "w", strict=False)
    source = f"checkpoint sha256 {digest(tmp_path / 'w')}"
    assert told == {
        "0.weight": source,
        "0.bias": f"as built: not in {source}",
        "1.weight": source,
        "1.bias": source,
        "3.weight": f"as built: float32 (5, 8) in the file, float32 (3, 8) in the model, {source}",
        "3.bias": source,
        "1.running_mean": source,
        "1.running_var": f"as built: not in {source}",
        "1.num_batches_tracked": f"as built: float32 () in the file, int64 () in the model, {source}",
    }
    kept = {name for name, how in told.items() if how.startswith("as built")}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in kept else state[name])


@pytest.mark.parametrize("strict", [True, False])
def test_a_file_of_another_network_is_refused(tmp_path, strict):
    save_file({"other": torch.zeros(3)}, tmp_path / "w")
    assert "does not fit the model (nothing in it fits)" in refusal(network(), tmp_path / "w", strict=strict)


def test_a_buffer_that_is_not_saved_may_be_missing(tmp_path):
    model = nn.Linear(2, 2)
    save_file(model.state_dict(), tmp_path / "w")
    model.register_buffer("mask", torch.ones(2), persistent=False)
    assert set(load(model, tmp_path / "w")) == {"weight", "bias"}


def test_tied_weights_are_one(tmp_path):
    def tied() -> nn.ModuleDict:
        model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
        model["head"].weight = model["embedding"].weight
        return model

    weight = torch.randn(5, 4)
    save_file({"embedding.weight": weight}, tmp_path / "w")
    model = tied()
    assert set(load(model, tmp_path / "w")) == {"embedding.weight"}
    assert torch.equal(model["head"].weight, weight)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, -1])
@pytest.mark.parametrize("strict", [True, False])
def test_a_part_of_a_file_is_refused(file, cut, strict):
    file.write_bytes(file.read_bytes()[:cut])
    assert refusal(network(), file, strict=strict).startswith("must be a complete safetensors file (")


@pytest.mark.parametrize("content", [b"weights", b"\xff" * 64, b"PK\x03\x04" + bytes(200)])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    assert refusal(network(), tmp_path / "w").startswith("must be a complete safetensors file")


def test_no_file_and_a_folder_are_refused(tmp_path):
    assert refusal(network(), tmp_path / "nothing") == "cannot be read (No such file or directory)"
    assert (
        "must be a file, not a folder; a run's weights are in checkpoints/best/weights.safetensors"
        in refusal(network(), tmp_path)
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e300])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    state = {name: tensor.double() for name, tensor in nn.Linear(2, 2).state_dict().items()}
    state["bias"][1] = value
    save_file(state, tmp_path / "w")
    assert (
        refusal(nn.Linear(2, 2), tmp_path / "w")
        == "has values in bias that are not finite in the model's precision"
    )


# --- as an option of a run


def test_the_path_must_be_given():
    with pytest.raises(UsageError) as refused:
        composed(["init=checkpoint"], CONF)
    assert refused.value.faults == ["init.path: must be given"]


def test_a_run_goes_on_from_another_runs_weights(tmp_path):
    first = composed([*SHORT, f"output_dir={tmp_path}"], CONF)
    run.train(first)
    weights = first.folder / record.BEST_WEIGHTS
    again = composed([*SHORT, f"output_dir={tmp_path}", "init=checkpoint", f"init.path='{weights}'"], CONF)
    parts = run.build(again)
    (loss,), _ = parts.learner.evaluate(evaluation_batches(parts.data.validation))
    assert loss == record.read(first.folder)["best"]["value"]
    loaded = parts.learner.model_state_dict(0, best=False)
    run.train(again)
    found = record.read(again.folder)
    assert set(found["init"].values()) == {f"checkpoint sha256 {digest(weights)}"}
    assert {"norm0.running_mean", "linear0.weight"} <= set(found["init"]) == set(loaded)


def test_a_file_that_does_not_fit_ends_before_a_folder_is_made(tmp_path, file):
    asked = composed(
        [*SHORT, f"output_dir={tmp_path / 'out'}", "init=checkpoint", f"init.path='{file}'"], CONF
    )
    with pytest.raises(UsageError, match=r"^init\.path=.*does not fit the model"):
        run.build(asked)
    assert not (tmp_path / "out").exists()
