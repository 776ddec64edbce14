import inspect
import re

import pytest

from contracts import errors
from contracts.errors import PenstockError

ERRORS = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, PenstockError)]


def drawn_tree():
    """Return {name: (parent, exit code)} as the module's docstring draws it."""
    tree, path = {}, []
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+) +(\d+)  \S", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            tree[found[2]] = (path[depth - 1] if depth else "Exception", int(found[3]))
    return tree


def test_the_tree_in_the_docstring_is_the_tree_in_the_code():
    assert drawn_tree() == {each.__name__: (each.__base__.__name__, each.exit_code) for each in ERRORS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_says_what_it_means_and_ends_the_process_with_a_sysexits_code(error):
    assert error.__doc__.strip()
    assert 64 <= error.exit_code <= 78
