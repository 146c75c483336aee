"""From the user's Python functions to graphs: the traced array and the trace."""
