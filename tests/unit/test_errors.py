"""The tree of errors and its exit codes."""

from __future__ import annotations

import pytest

from tapeline.model import errors
from tapeline.model.errors import TapelineError

TREE = {
    "TapelineError": (Exception, 1),
    "UsageError": (errors.TapelineError, 2),
    "TapeError": (errors.UsageError, 2),
    "SchemaError": (errors.UsageError, 2),
    "ExpiredError": (errors.UsageError, 2),
    "ServiceUnavailableError": (errors.TapelineError, 3),
    "AccessError": (errors.ServiceUnavailableError, 2),
    "LocalStackError": (errors.TapelineError, 4),
    "PreflightError": (errors.LocalStackError, 4),
    "FeedError": (errors.TapelineError, 5),
    "DeliveryError": (errors.TapelineError, 6),
    "StreamError": (errors.TapelineError, 7),
    "PoisonError": (errors.TapelineError, 8),
    "SpoolError": (errors.TapelineError, 9),
    "AuditError": (errors.TapelineError, 1),
}


@pytest.mark.parametrize("name", TREE)
def test_an_error_has_its_parent_and_exit_code(name):
    error = getattr(errors, name)
    assert (error.__bases__[0], error.exit_code) == TREE[name]


def test_every_error_of_the_module_is_in_the_tree():
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, TapelineError)
    }
    assert found == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_the_docstring_draws_every_error_with_its_code(name):
    drawing = errors.__doc__
    assert drawing is not None
    (line,) = (x for x in drawing.splitlines() if name in x.split())
    parent, code = TREE[name]
    own_code_is_drawn = parent in {Exception, errors.TapelineError} or code != parent.exit_code
    assert (f"exit code {TREE[name][1]}" in line) == own_code_is_drawn
