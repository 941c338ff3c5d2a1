"""What produced a run: code, input files, versions, hardware; and what of it has changed since."""
