"""Rewrites of a graph into a graph that computes the same with less work."""
