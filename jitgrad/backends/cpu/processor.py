"""What each processor spells in a way of its own: a pause while spinning, and the mode of its floating-point arithmetic.

The mode says how results are rounded and whether subnormal numbers are taken for zero. It belongs to a thread, so a worker
takes over that of the thread that it works for.
"""

from __future__ import annotations

_X86 = """
declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define internal void @jg.pause() {
  call void @llvm.x86.sse2.pause()
  ret void
}
define internal void @jg.get_mode(ptr %at) {
  call void @llvm.x86.sse.stmxcsr(ptr %at)
  ret void
}
define internal void @jg.set_mode(ptr %at) {
  call void @llvm.x86.sse.ldmxcsr(ptr %at)
  ret void
}"""

_ARM = """
declare void @llvm.aarch64.hint(i32)
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
define internal void @jg.pause() {
  call void @llvm.aarch64.hint(i32 1)
  ret void
}
define internal void @jg.get_mode(ptr %at) {
  %mode = call i64 @llvm.aarch64.get.fpcr()
  store i64 %mode, ptr %at
  ret void
}
define internal void @jg.set_mode(ptr %at) {
  %mode = load i64, ptr %at
  call void @llvm.aarch64.set.fpcr(i64 %mode)
  ret void
}"""

_OTHER = """
define internal void @jg.pause() {
  ret void
}
define internal void @jg.get_mode(ptr %at) {
  ret void
}
define internal void @jg.set_mode(ptr %at) {
  ret void
}"""

_SOURCES = {"x86_64": _X86, "aarch64": _ARM, "arm64": _ARM}
_SPINS = {"x86_64": 2000, "aarch64": 40_000, "arm64": 40_000}


def processor_source(triple: str) -> str:
    """`void jg.pause()`, and `void jg.get_mode(at)`, `void jg.set_mode(at)`, which keep the mode in a 64-bit word."""
    return _SOURCES.get(_architecture(triple), _OTHER)


def spins(triple: str) -> int:
    """How many pauses take some 20 to 90 microseconds: longer than the gaps between phases and between calls in a loop,
    and than it takes to wake a thread."""
    return _SPINS.get(_architecture(triple), 2000)


def _architecture(triple: str) -> str:
    return triple.partition("-")[0]
