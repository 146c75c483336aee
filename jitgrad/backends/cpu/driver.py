"""The driver: runs a table of (function, words) pairs on one set of base addresses.

It reads a program's record, 64-bit words:

    table, calls, parallel,
    phases, phase count, pieces, base slots, private slot, private bytes, threads,
    stacks, arena slot

`parallel` is the address of a function of the same arguments that shares the work among threads (`pool.py`, which reads
the words of the second line); 0: all calls are done here, in the order of the table. The records of the `stacks`, 16 bytes
each, stand at the start of the arena: empty before the first call, and what they have come to hold is freed after the last.
"""

from __future__ import annotations

DRIVER_SYMBOL = "jg.run"

TABLE, CALLS, PARALLEL, PHASES, PHASE_COUNT, PIECES, SLOTS, PRIVATE_SLOT, PRIVATE_BYTES, THREADS, STACKS, ARENA_SLOT = range(12)


def calls_source() -> str:
    """The blocks that make the calls from %first to %end of %table and return 0, or (call + 1) * 256 + status of the call
    that failed. They go on from the block `entry`."""
    return """  %none = icmp sge i64 %first, %end
  br i1 %none, label %done, label %step
step:
  %k = phi i64 [ %first, %entry ], [ %next, %fine ]
  %row = getelementptr [2 x ptr], ptr %table, i64 %k
  %function = load ptr, ptr %row
  %at = getelementptr ptr, ptr %row, i64 1
  %words = load ptr, ptr %at
  %status = call i64 %function(ptr %bases, ptr %words)
  %next = add nsw i64 %k, 1
  %ok = icmp eq i64 %status, 0
  br i1 %ok, label %fine, label %failed
fine:
  %more = icmp slt i64 %next, %end
  br i1 %more, label %step, label %done
failed:
  %shifted = shl i64 %next, 8
  %result = or i64 %shifted, %status
  ret i64 %result
done:
  ret i64 0"""


def driver_source() -> str:
    """`i64 jg.run(bases, program)`: 0, or (call + 1) * 256 + status of the first call in the table that failed. To be put
    beside a declaration of `free`."""
    return f"""define i64 @{DRIVER_SYMBOL}(ptr %bases, ptr %program) {{
  %stacksp = getelementptr i64, ptr %program, i64 {STACKS}
  %stacks = load i64, ptr %stacksp
  %has_none = icmp eq i64 %stacks, 0
  br i1 %has_none, label %plain, label %with
plain:
  %done = tail call i64 @jg.calls(ptr %bases, ptr %program)
  ret i64 %done
with:
  %slotp = getelementptr i64, ptr %program, i64 {ARENA_SLOT}
  %slot = load i64, ptr %slotp
  %arenap = getelementptr ptr, ptr %bases, i64 %slot
  %arena = load ptr, ptr %arenap
  br label %empty
empty:
  %k = phi i64 [ 0, %with ], [ %k1, %empty ]
  %record = getelementptr [2 x i64], ptr %arena, i64 %k
  store [2 x i64] zeroinitializer, ptr %record
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %stacks
  br i1 %more, label %empty, label %run
run:
  %status = call i64 @jg.calls(ptr %bases, ptr %program)
  br label %release
release:
  %n = phi i64 [ 0, %run ], [ %n1, %release ]
  %used = getelementptr [2 x i64], ptr %arena, i64 %n
  %data = load ptr, ptr %used
  call void @free(ptr %data)
  %n1 = add i64 %n, 1
  %left = icmp slt i64 %n1, %stacks
  br i1 %left, label %release, label %out
out:
  ret i64 %status
}}

define i64 @jg.calls(ptr %bases, ptr %program) {{
  %parallelp = getelementptr i64, ptr %program, i64 {PARALLEL}
  %parallel = load ptr, ptr %parallelp
  %is_shared = icmp ne ptr %parallel, null
  br i1 %is_shared, label %shared, label %entry
shared:
  %outcome = call i64 %parallel(ptr %bases, ptr %program)
  ret i64 %outcome
entry:
  %table = load ptr, ptr %program
  %endp = getelementptr i64, ptr %program, i64 {CALLS}
  %end = load i64, ptr %endp
  %first = add i64 0, 0
{calls_source()}
}}"""
