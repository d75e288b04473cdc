# SPDX-License-Identifier: Apache-2.0
"""`pb_utils.ModelConfig`: what a model's `auto_complete_config` may add to its configuration.

A model adds what the file leaves out; where both speak, they must agree, and the model's word is
refused with Triton's texts otherwise. The one exception is Triton's: a maximum batch size below
the model's is raised to it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

_SCHEDULERS = ("dynamic_batching", "sequence_batching", "ensemble_scheduling")


class ModelConfig:
    """A configuration while it is being completed."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config: dict[str, Any] = copy.deepcopy(dict(config))
        self._model: str = self._config.get("name", "")

    def as_dict(self) -> dict[str, Any]:
        """The configuration as it stands, with the field names of `config.pbtxt`."""
        return self._config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Lets the server batch up to this many rows."""
        configured = self._config.get("max_batch_size", 0)
        if configured > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {configured}, but in auto-complete-config "
                f"function for model '{self._model}' specified max_batch_size {max_batch_size}"
            )
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Turns dynamic batching on, unless the file chose a scheduler."""
        if not any(self._config.get(scheduler) is not None for scheduler in _SCHEDULERS):
            self._config["dynamic_batching"] = {}

    def add_input(self, properties: Mapping[str, Any]) -> None:
        """Declares an input: `name`, `data_type`, `dims` and perhaps `optional`."""
        self._check("input", properties, ("name", "data_type", "dims", "optional"))
        self._add("input", properties)

    def add_output(self, properties: Mapping[str, Any]) -> None:
        """Declares an output: `name`, `data_type` and `dims`."""
        self._check("output", properties, ("name", "data_type", "dims"))
        self._add("output", properties)

    def set_model_transaction_policy(self, policy: Mapping[str, Any]) -> None:
        """Says whether the model is decoupled: `{"decoupled": True}`."""
        for key in policy:
            if key != "decoupled":
                raise ValueError(
                    f"model transaction policy property in auto-complete-config function for model "
                    f"'{self._model}' contains property other than 'decoupled'."
                )
        if "decoupled" not in policy:
            return
        configured = self._config.get("model_transaction_policy")
        wanted = bool(policy["decoupled"])
        if configured and bool(configured.get("decoupled", False)) != wanted:
            raise ValueError(
                f"trying to change decoupled property in auto-complete-config for model "
                f"'{self._model}', which is already set to '{configured.get('decoupled', False)}'."
            )
        self._config["model_transaction_policy"] = {"decoupled": wanted}

    def _check(self, kind: str, properties: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
        named = f"{kind} '{properties['name']}'" if "name" in properties else kind
        where = f"in auto-complete-config function for model '{self._model}'"
        if any(key not in allowed for key in properties):
            quoted = [f"'{key}'" for key in allowed]
            names = f"{', '.join(quoted[:-1])} and {quoted[-1]}"
            raise ValueError(f"{named} {where} contains property other than {names}.")
        for key in ("name", "data_type", "dims"):
            if key not in properties:
                raise ValueError(f"{named} {where} is missing '{key}' property.")

    def _add(self, kind: str, properties: Mapping[str, Any]) -> None:
        declared = self._config.setdefault(kind, [])
        for present in declared:
            if present["name"] == properties["name"]:
                self._agree(kind, present, properties)
                return
        declared.append(dict(properties))

    def _agree(self, kind: str, present: dict[str, Any], properties: Mapping[str, Any]) -> None:
        name = present["name"]
        if present.get("data_type", properties["data_type"]) != properties["data_type"]:
            raise ValueError(
                f"unable to load model '{self._model}', configuration expects datatype "
                f"{present['data_type']} for {kind} '{name}', model provides "
                f"{properties['data_type']}"
            )
        if list(present.get("dims", [])) != list(properties["dims"]):
            raise ValueError(
                f"model '{self._model}', tensor '{name}': the model expects dims "
                f"{list(properties['dims'])} but the model configuration specifies dims "
                f"{list(present.get('dims', []))}"
            )
        if "optional" in properties and bool(present.get("optional", False)) != bool(
            properties["optional"]
        ):
            raise ValueError(
                f"model '{self._model}', tensor '{name}': the model expects optional "
                f"{properties['optional']} but the model configuration specifies optional "
                f"{present.get('optional', False)}"
            )
