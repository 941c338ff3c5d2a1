"""The yamls, which Hydra finds by `hydra.searchpath=[pkg://spirals.conf]`."""
