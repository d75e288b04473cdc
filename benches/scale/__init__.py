# SPDX-License-Identifier: Apache-2.0
"""How one Nerite carries much at once: open connections, requests in flight, models.

`connections` is the client (asyncio, one protocol object per connection), `__main__` starts the
servers, runs the parts and prints what they cost. Speed is not measured here but in `load`.
"""
