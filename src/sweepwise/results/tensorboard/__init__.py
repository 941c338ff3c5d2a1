"""What TensorBoard shows of a whole sweep."""
