"""What a target can do, as numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A machine to compile for. `features` is LLVM's list; `vector_bytes` the width of its vector registers."""

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int

    @property
    def vector_bits(self) -> int:
        return 8 * self.vector_bytes

    @property
    def scaling(self) -> bool:
        """Whether it multiplies by powers of two in one instruction, subnormal results included."""
        return "+avx512f" in self.features.split(",")


def vector_bytes(features: str) -> int:
    """The vector width that a list of LLVM features (x86-64 or AArch64) implies."""
    present = {item[1:] for item in features.split(",") if item.startswith("+")}
    if "avx512f" in present and "avx512vl" in present:
        return 64
    return 32 if "avx2" in present else 16
