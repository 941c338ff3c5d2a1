"""Launchers and sweepers, where Hydra looks for them.

Hydra loads every module here at each start but those whose names begin with an underscore; so they are small.
"""
