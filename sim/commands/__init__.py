# SPDX-License-Identifier: BSD-2-Clause
"""The commands of the command line, one module each: ``add(commands)`` declares it, ``run(arguments)`` does it and returns the
exit code. What takes long to import (simulator, models) is imported when it is needed."""
