"""The processes that train one run: which of them this one is, and what they exchange."""
