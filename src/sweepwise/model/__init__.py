"""Networks. A model is a function of the data's `features` (the shape of one example) and `outputs`."""
