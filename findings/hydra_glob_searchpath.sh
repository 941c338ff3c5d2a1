#!/bin/sh
# hydra-core 1.3.8: glob() in a sweep does not see the configs that hydra.searchpath adds, though Hydra composes each of
# them when it is named. db=glob(*) then silently sweeps fewer options than db=a,b does; with --config-dir instead of
# hydra.searchpath it sees them. Seen: of the options `here` (conf/) and `there` (added), glob(*) runs one job, not two.
# The sweeper's parser asks the loader for a group's options without the overrides of the command, by which
# hydra.searchpath is known.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q hydra-core==1.3.8
mkdir -p "$folder/conf/db" "$folder/added/db"
echo "defaults: [{db: here}, _self_]" > "$folder/conf/main.yaml"
echo "name: here" > "$folder/conf/db/here.yaml"
echo "name: there" > "$folder/added/db/there.yaml"
cat > "$folder/app.py" <<'PYTHON'
import hydra


@hydra.main(version_base="1.3", config_path="conf", config_name="main")
def main(config):
    print("job", config.db.name)


main()
PYTHON
cd "$folder"
jobs() { "$folder/venv/bin/python" app.py -m "$@" | grep '^job' | sort | tr '\n' ' '; }
search="hydra.searchpath=[file://$folder/added]"
named=$(jobs "$search" db=here,there)
globbed=$(jobs "$search" 'db=glob(*)')
with_flag=$(jobs --config-dir="$folder/added" 'db=glob(*)')
echo "named: $named; glob: $globbed; glob with --config-dir: $with_flag"
test "$named" = "job here job there "
test "$globbed" = "job here "
test "$with_flag" = "job here job there "
