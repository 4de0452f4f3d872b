# SPDX-License-Identifier: BSD-2-Clause
"""What a run leaves for people (:mod:`.terminal`) and for programs (:mod:`.files`: JSON, JUnit)."""
