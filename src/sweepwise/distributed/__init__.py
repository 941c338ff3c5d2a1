"""The processes that train one run: where this one stands, and what they agree on."""
