"""The graph: typed nodes, the record of one operation, printing, checking and interpreting."""
