"""Graph to graph: forward and reverse derivatives. They name no operation but `+`."""
