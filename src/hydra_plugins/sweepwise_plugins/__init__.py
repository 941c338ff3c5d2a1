"""Launchers and sweepers, in the package where Hydra looks for them.

At each start Hydra imports every module here whose name does not begin with an underscore; so they are small.
"""
