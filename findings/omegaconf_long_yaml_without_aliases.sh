#!/bin/sh
# OmegaConf 2.4.0: a yaml of more than 10,000 values is refused although it has no alias: "YAML node expansion exceeds
# the configured limit of 10000". OmegaConf.load, OmegaConf.create of its text and the loading of what OmegaConf.save has
# written refuse it alike; 2.3.0 reads it, and so does yaml.safe_load. A limit of what aliases expand to thus is one of the
# length of a file: a list of 10,000 numbers is too long. OMEGACONF_MAX_YAML_EXPANDED_NODES=none reads it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/try.py" <<'PYTHON'
import sys

import omegaconf
import yaml
from omegaconf import OmegaConf

path = sys.argv[1]
OmegaConf.save(OmegaConf.create({"weights": [1] * 10_000}), path)
assert len(yaml.safe_load(open(path))["weights"]) == 10_000 and not set("&*") & set(open(path).read())
try:
    said = f"reads {len(OmegaConf.load(path).weights)}"
except yaml.YAMLError as error:
    said = str(error).splitlines()[0]
print(omegaconf.__version__, said)
sys.exit(not said.startswith("YAML node expansion exceeds" if sys.argv[2] == "refused" else "reads 10000"))
PYTHON
"$folder/venv/bin/pip" install -q omegaconf==2.3.0
"$folder/venv/bin/python" "$folder/try.py" "$folder/long.yaml" read
"$folder/venv/bin/pip" install -q omegaconf==2.4.0
"$folder/venv/bin/python" "$folder/try.py" "$folder/long.yaml" refused
OMEGACONF_MAX_YAML_EXPANDED_NODES=none "$folder/venv/bin/python" "$folder/try.py" "$folder/long.yaml" read
