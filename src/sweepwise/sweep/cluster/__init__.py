"""Sweeps on a Slurm cluster."""
