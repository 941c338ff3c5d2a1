"""The groups of a config, what a `_target_` may name, and how values are bound and checked."""
