# SPDX-License-Identifier: Apache-2.0
"""What serving a scikit-learn model costs beside calling it."""
