"""The page of a sweep: its content as plain data, and that as HTML and Markdown."""
