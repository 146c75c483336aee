"""Graph to plan: which nodes share a kernel, the kernels as loop nests, buffers and the order of calls."""
