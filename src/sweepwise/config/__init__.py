"""Which groups a config has, what a `_target_` may name, and how values are bound and checked."""
