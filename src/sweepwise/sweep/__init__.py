"""Many runs: composed, given to this machine or to a cluster, and looked at together."""
