"""Several processes that train one run: a share of each batch, or a part of each parameter."""
