# SPDX-License-Identifier: BSD-2-Clause
"""No operating system: cache maintenance by address under CMSIS names, barriers, memory, interrupts."""

from .machine import Machine

__all__ = ["Machine"]
