# SPDX-License-Identifier: Apache-2.0
"""An InferenceGraph in the server of its models, beside the same graph in a gateway."""
