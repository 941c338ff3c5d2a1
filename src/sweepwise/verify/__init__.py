"""Whether runs are the same to the bit, also after crashes."""
