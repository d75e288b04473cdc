# SPDX-License-Identifier: Apache-2.0
"""What large tensors cost a server."""
