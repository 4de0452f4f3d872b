# SPDX-License-Identifier: BSD-2-Clause
"""What ``new-driver`` writes: one complete driver per style. Each is run as a test and has no finding."""
