"""Artifacts: directories that are whole or absent.

A stage leaves a directory with a `manifest.json` (its settings, the digests of its inputs and outputs, versions, seed,
wall time, facts). It is built in `.NAME.partial` beside its place and renamed there at the end, so a half-written
artifact can never be mistaken for a whole one. The same settings, inputs and seed give the same key: such an artifact
is reused after its files have been compared with their digests. Work that was long, or a model, is never removed: a
request that differs is refused, or sets the old artifact aside.

Three kinds of file within an artifact: outputs, whose SHA-256 makes the artifact's digest; everything under `logs/`
(times, TensorBoard events), listed but not part of the digest; and the manifest itself.
"""

from megalith.artifacts.digests import check_files, check_part, file_digest, file_digests, file_states
from megalith.artifacts.files import sweep, sync, whole
from megalith.artifacts.fresh import set_aside
from megalith.artifacts.making import produce
from megalith.artifacts.manifest import (
    EXPEDITION,
    LOGS,
    MANIFEST,
    Manifest,
    Output,
    check_seal,
    is_ours,
    read_manifest,
    sealed,
)
from megalith.artifacts.request import flat, read_mark
from megalith.artifacts.verification import FileState, Verified, verify
from megalith.artifacts.workspace import Artifact, Workspace, open_artifact

__all__ = [
    "EXPEDITION",
    "LOGS",
    "MANIFEST",
    "Artifact",
    "FileState",
    "Manifest",
    "Output",
    "Verified",
    "Workspace",
    "check_files",
    "check_part",
    "check_seal",
    "file_digest",
    "file_digests",
    "file_states",
    "flat",
    "is_ours",
    "open_artifact",
    "produce",
    "read_manifest",
    "read_mark",
    "sealed",
    "set_aside",
    "sweep",
    "sync",
    "verify",
    "whole",
]
