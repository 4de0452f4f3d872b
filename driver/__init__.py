# SPDX-License-Identifier: BSD-2-Clause
"""Drivers for Flushpoint's hardware, from bus to WDK interface; see ``docs/driver.md``. Imports no simulator."""
