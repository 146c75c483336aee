"""Spelling kernels for a target: scalar code, vector mathematics, loop nests. Backends spell, they don't decide."""
