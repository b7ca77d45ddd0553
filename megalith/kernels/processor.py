"""The processor as torch's libraries see it: model, instruction sets, and the caps that a user has put on them."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")
"""Environment variables by which oneDNN, MKL and torch's own loops are held to older instructions."""

_CPUINFO = Path("/proc/cpuinfo")
_NAMES = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "Features",
    "CPU implementer",
    "CPU part",
)
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
_CAPPED_BELOW_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}


def processor() -> dict[str, str]:
    """Identify the processor by lines of /proc/cpuinfo, or else by what Python knows."""
    try:
        first = _CPUINFO.read_text().split("\n\n", 1)[0]
    except OSError:
        return {"model name": platform.processor() or platform.machine()}
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines if name.strip() in _NAMES}


def caps(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The caps that are set."""
    return {name: value for name in CAPS if (value := environment.get(name))}


def multiplies_bf16(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether oneDNN has bf16 instructions to multiply with; without them it takes several times fp32's time."""
    known = processor()
    flags = set((known.get("flags") or known.get("Features") or "").lower().split())
    cap = (environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA") or "").upper()
    return bool(flags & _BF16) and cap not in _CAPPED_BELOW_BF16
