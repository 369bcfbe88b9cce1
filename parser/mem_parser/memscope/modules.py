"""Names of CANN's modules, by the number in a driver's block."""

from __future__ import annotations

_NAMES = (
    "SLOG", "IDEDD", "IDEDH", "HCCL", "FMK", "HIAIENGINE", "DVPP", "RUNTIME", "CCE", "HDC", "DRV",
    "MDCFUSION", "MDCLOCATION", "MDCPERCEPTION", "MDCFSM", "MDCCOMMON", "MDCMONITOR", "MDCBSWP",
    "MDCDEFAULT", "MDCSC", "MDCPNC", "MLL", "DEVMM", "KERNEL", "LIBMEDIA", "CCECPU", "ASCENDDK",
    "ROS", "HCCP", "ROCE", "TEFUSION", "PROFILING", "DP", "APP", "TS", "TSDUMP", "AICPU", "LP",
    "TDT", "FE", "MD", "MB", "ME", "IMU", "IMP", "GE", "MDCFUSA", "CAMERA", "ASCENDCL", "TEEOS",
    "ISP", "SIS", "HSM", "DSS", "PROCMGR", "BBOX", "AIVECTOR", "TBE", "FV", "MDCMAP", "TUNE",
    "HSS", "FFTS", "OP", "UDF", "HICAID", "TSYNC", "AUDIO", "TPRT", "ASCENDCKERNEL", "ASYS",
    "ATRACE", "RTC", "SYSMONITOR", "AML", "INVLID_MOUDLE_ID",
)  # fmt: skip
"""The last one is spelled so in the driver."""
NAMES = frozenset(_NAMES)
UNKNOWN = "UNKNOWN"


def module_name(number: int) -> str:
    """Return the name of a module; `UNKNOWN` for a number that has none."""
    return _NAMES[number] if 0 <= number < len(_NAMES) else UNKNOWN
