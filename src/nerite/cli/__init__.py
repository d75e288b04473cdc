# SPDX-License-Identifier: Apache-2.0
"""The command line: one file per sub-command, every heavy import inside the function that needs it.

`app` runs one command line, `commands` puts the commands together, `flags` is the table of all
`nerite serve` flags, `client` is the small HTTP client of the commands that talk to a running
server, `screen` draws tables. Nothing here decides anything about models or requests: what the
words mean is in `nerite.config`, what happens is in `nerite.server`.
"""
