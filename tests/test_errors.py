"""Errors go between processes as they are."""

import json

import pytest

from megalith.errors import MegalithError, error_from_json, error_to_json


@pytest.mark.parametrize("kind", [MegalithError, *MegalithError.__subclasses__()])
def test_an_error_goes_from_process_to_process_unchanged(kind: type[MegalithError]) -> None:
    error = kind("what", where="where", mend=None)
    read = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(read) is kind
    assert read.args == error.args
