# SPDX-License-Identifier: Apache-2.0
"""The examples under each command's help, in the order in which people need them.

The tests parse every one of them, so that a flag that was renamed cannot stay here.
"""

from __future__ import annotations

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "serve": (
        "nerite serve model.onnx",
        "nerite serve models --model-control-mode=explicit --load-model=ranker",
        "nerite serve --model-repository=/models --http-port=8000 --grpc-port=8001",
    ),
    "check": ("nerite check models", "nerite check models/ranker/config.pbtxt --json"),
    "explain": ("nerite explain -f isvc.yaml", "nerite explain -f services/ --builtin 0.11"),
    "up": ("nerite up -f isvc.yaml --pvc models=./models", "nerite up --http-port 0"),
    "apply": ("nerite apply -f isvc.yaml", "nerite apply -f -"),
    "get": (
        "nerite get isvc",
        "nerite get isvc -A --watch",
        "nerite get isvc ranker -o jsonpath='{.status.url}'",
        "nerite get isvc -l team=search -o yaml",
    ),
    "describe": ("nerite describe isvc ranker",),
    "wait": ("nerite wait --for=condition=Ready isvc/ranker --timeout=2m",),
    "logs": ("nerite logs ranker --tail 20",),
    "delete": (
        "nerite delete isvc ranker",
        "nerite delete -f isvc.yaml",
        "nerite delete all --all",
    ),
    "infer": (
        "nerite infer ranker 'input-0=[[5.1, 3.5, 1.4, 0.2]]'",
        "nerite infer tagger text=@letter.txt --json",
        "nerite infer resnet image=@cat.png --scale=unit",
    ),
    "models": ("nerite models", "nerite models load ranker", "nerite models unload ranker"),
    "models load": (
        "nerite models load ranker",
        "nerite models load ranker --config ranker.json --file 1/model.onnx=new.onnx",
    ),
    "models unload": ("nerite models unload ranker",),
    "backends": ("nerite backends",),
    "keys new": (
        "nerite keys new ci --models 'ranker-*' --file keys.txt",
        "nerite keys new ops --scopes infer,manage,metrics --file keys.txt",
    ),
    "export runtime": (
        "nerite export runtime --image registry.example/nerite:0.1.0",
        "nerite export runtime --format onnx --namespace team",
    ),
    "storage-initializer": ("nerite storage-initializer s3://bucket/ranker /mnt/models",),
}


def of(command: str) -> str:
    """The text below a command's help; empty lines keep the examples apart."""
    examples = EXAMPLES[command]
    return "\n\n".join(("Examples:" if examples[1:] else "Example:", *examples))
