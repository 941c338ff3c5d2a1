"""Code that scripts share, and the learning rate range test."""
