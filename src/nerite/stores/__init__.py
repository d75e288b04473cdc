# SPDX-License-Identifier: Apache-2.0
"""Where model files come from.

`local` is the folder on this machine, `named` one model of it under a name of the operator's. A
store lists models and says where their files are; it reads no configuration and loads nothing.
"""
