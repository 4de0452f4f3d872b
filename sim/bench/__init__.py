# SPDX-License-Identifier: BSD-2-Clause
"""Measures each block alone and the whole SoC, and compares with goals: ``make bench``. See docs/bench.md."""
