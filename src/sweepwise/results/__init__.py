"""What the runs of a sweep say together: one table, its statistics, and the answer to a question."""
