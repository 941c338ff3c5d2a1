"""What a run was made by: code, inputs, versions, hardware; and what of it differs now."""
