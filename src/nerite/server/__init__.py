# SPDX-License-Identifier: Apache-2.0
"""Everything assembled: options in, a running server out, and a clean stop.

`options` is what can be chosen, `server` starts and stops, `control` answers the calls that Python
answers, `process` ties a server to signals and an exit code, `logs` writes the log, `environment`
is the one module that reads the environment and the machine.
"""

from nerite.server.options import ServerOptions
from nerite.server.process import serve_forever
from nerite.server.server import Server

__all__ = ["Server", "ServerOptions", "serve_forever"]
