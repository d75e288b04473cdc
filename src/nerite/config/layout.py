# SPDX-License-Identifier: Apache-2.0
"""What lies in a model folder: its configuration file and its version folders.

Names only; nothing is read here but directory listings. Which versions are served is a pure
function of what was found and the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nerite.config.parts import VersionPolicy
from nerite.errors import ConfigProblem

#: Folders beside the versions that have a meaning of their own.
KNOWN_FOLDERS = frozenset({"warmup", "initial_state", "configs"})
CONFIG_FILES = ("config.pbtxt", "config.yaml", "config.yml", "config.json")
LARGEST_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Versions:
    """The version folders of a model, by number, and what was odd about the others."""

    folders: dict[int, Path]
    warnings: tuple[str, ...] = ()

    @property
    def first(self) -> Path | None:
        """The folder that is looked into to complete a configuration (lexically the first)."""
        return min(self.folders.values(), key=lambda folder: folder.name, default=None)


def find_versions(folder: Path) -> Versions:
    """The version folders of a model folder."""
    folders: dict[int, Path] = {}
    warnings: list[str] = []
    for entry in sorted(folder.iterdir()):
        name = entry.name
        if name in KNOWN_FOLDERS or name.startswith((".", "__")) or not entry.is_dir():
            continue
        fault = _fault_of(name)
        if fault:
            what = f"version directory '{name}' of model '{folder.name}'"
            warnings.append(f"ignoring {what}: {fault}")
        else:
            folders[int(name)] = entry
    return Versions(folders, tuple(warnings))


def _fault_of(name: str) -> str:
    if not (name.isascii() and name.isdigit()):
        return "a version is a whole number such as 1"
    if name[0] == "0" and name != "0":
        return "a version has no leading zeros"
    # Triton ends the whole server here; see tests/config/vectors/fatal.json (fa_version_too_big).
    if len(name) > 19 or int(name) > LARGEST_VERSION:
        return f"a version is at most {LARGEST_VERSION}"
    return ""


def choose_versions(
    found: tuple[int, ...], policy: VersionPolicy, model: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The versions the policy serves, in ascending order, and a warning for each it misses."""
    if policy.kind == "all":
        return tuple(sorted(found)), ()
    if policy.kind == "latest":
        keep = min(policy.num_versions, len(found))
        return tuple(sorted(found)[len(found) - keep :]), ()
    missing = [version for version in policy.versions if version not in found]
    warnings = tuple(
        f"version {version} is specified for model '{model}', "
        "but the version directory is not present"
        for version in missing
    )
    return tuple(sorted(set(policy.versions) & set(found))), warnings


def no_version(model: str, policy: VersionPolicy, versions: Versions) -> ConfigProblem:
    """The problem of a model of which no version can be served."""
    message = f"at least one version must be available under the version policy of model '{model}'"
    present = ", ".join(str(version) for version in sorted(versions.folders))
    if versions.folders:
        fix = f"name a version that is there ({present}) in 'version_policy'"
    elif versions.warnings:
        fix = f"name the folder 1; {versions.warnings[0]}"
    else:
        fix = f"put the model's files into a folder '{model}/1'"
    return ConfigProblem(message, key="version_policy", value=policy.kind, fix=fix)


def find_config_files(folder: Path, config_name: str | None) -> list[Path]:
    """The configuration files of a model folder, the one that counts first."""
    names = list(CONFIG_FILES)
    if config_name:
        endings = [Path(name).suffix for name in CONFIG_FILES]
        chosen = [f"configs/{config_name}{ending}" for ending in endings]
        alternative = [folder / name for name in chosen if (folder / name).exists()]
        if alternative:
            return alternative
    return [folder / name for name in names if (folder / name).exists()]
