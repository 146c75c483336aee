"""From graph to something that runs: compiling, caching, calling."""
