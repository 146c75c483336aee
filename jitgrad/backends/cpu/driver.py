"""The driver: runs a table of (function, words) pairs on one set of base addresses."""

from __future__ import annotations

DRIVER_SYMBOL = "jg.run"


def driver_source() -> str:
    """`i64 jg.run(bases, table, count)`: 0, or (step + 1) * 256 + status of the step that failed."""
    return f"""define i64 @{DRIVER_SYMBOL}(ptr %bases, ptr %table, i64 %count) {{
entry:
  %none = icmp sle i64 %count, 0
  br i1 %none, label %done, label %step
step:
  %k = phi i64 [ 0, %entry ], [ %next, %fine ]
  %row = getelementptr [2 x ptr], ptr %table, i64 %k
  %function = load ptr, ptr %row
  %at = getelementptr ptr, ptr %row, i64 1
  %words = load ptr, ptr %at
  %status = call i64 %function(ptr %bases, ptr %words)
  %next = add nsw i64 %k, 1
  %ok = icmp eq i64 %status, 0
  br i1 %ok, label %fine, label %failed
fine:
  %more = icmp slt i64 %next, %count
  br i1 %more, label %step, label %done
failed:
  %shifted = shl i64 %next, 8
  %result = or i64 %shifted, %status
  ret i64 %result
done:
  ret i64 0
}}"""
