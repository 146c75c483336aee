"""From the user's Python functions to graphs: the traced array and the trace.

Imports run from top to bottom:

    handle, trace, calls, power      an array's state; the trace and what it captures; which user code runs
    aliasing, convert, guards        memory that is shared; values to nodes and dtypes; what must still hold at a call
    refusals, registry               what an array refuses; the tables of NumPy's functions
    reads, randomness, captures      what code reads; random generators; what a function reads, all in all
    indexing, loops, missing         x[key]; a ufunc's dtypes and primitive; errors for what has no rule
    methods, operators               of the traced array
    folds, ufuncs                    ufunc.reduce and accumulate; the ufunc protocol
    array                            `Array`, which joins all of these: modules above make it by `handle.array_of`
    function                         from a function to its graph
"""
