"""From the user's Python functions to graphs: the traced array and the trace.

Imports run from top to bottom:

    handle, trace, calls, power      an array's state; the trace and what it captures; which user code runs
    aliasing, convert, guards        memory that is shared; values to nodes and dtypes; what must still hold at a call
    refusals, captures, registry     what an array refuses; what a function reads; the tables of NumPy's functions
    indexing, loops, missing         x[key]; a ufunc's dtypes and primitive; errors for what has no rule
    methods, operators               of the traced array
    folds, ufuncs                    ufunc.reduce and accumulate; the ufunc protocol
    array                            `Array`, which joins all of these: modules above make it by `handle.array_of`
    function                         from a function to its graph
"""
