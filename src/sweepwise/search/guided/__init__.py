"""The recommended order as a search: stages, each a question, and what each of them decides."""
