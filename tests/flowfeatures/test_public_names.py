"""What `help(flowfeatures)` shows: each public name says what it gives, examples run, stubs promise no more."""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowfeatures

PACKAGE = Path(flowfeatures.__file__).parent
STUBS = sorted(PACKAGE.glob("*.pyi"))


def spoken() -> Iterator[tuple[str, object]]:
    """Yield every public class and function, and the methods of classes, by name."""
    for name in flowfeatures.__all__:
        named = getattr(flowfeatures, name)
        if inspect.isclass(named) or inspect.isroutine(named):
            yield name, named
        for method in dir(named) if inspect.isclass(named) else ():
            if not method.startswith("_") and inspect.isroutine(getattr(named, method)):
                yield f"{name}.{method}", getattr(named, method)


def promised(stub: Path) -> Iterator[tuple[str, ...]]:
    """Yield the path of every class, function and method of a stub."""
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield (node.name,)
        if isinstance(node, ast.ClassDef):
            yield from ((node.name, inner.name) for inner in node.body if isinstance(inner, ast.FunctionDef))


def test_the_order_of_reading_names_every_module():
    order = flowfeatures.__doc__.partition("To read the code")[2]
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix in {".py", ".pyx", ".pxd"}} - {"__init__"}

    assert modules - set(re.findall(r"\w+", order)) == set()


@pytest.mark.parametrize("name", [name for name, _ in spoken() if "." not in name])
def test_a_public_name_says_first_what_it_is(name: str):
    first_line = (inspect.getdoc(getattr(flowfeatures, name)) or "").partition("\n")[0]

    assert len(first_line) > 20
    assert first_line.endswith((".", ":"))


def test_the_examples_of_docstrings_run():
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
    globs = {name: getattr(flowfeatures, name) for name in flowfeatures.__all__}

    for name, named in spoken():
        runner.run(parser.get_doctest(inspect.getdoc(named) or "", dict(globs), name, None, 0))

    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries >= 3


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.stem)
def test_everything_a_stub_promises_is_there_and_said(stub: Path):
    module = importlib.import_module(f"flowfeatures.{stub.stem}")

    for path in promised(stub):
        named = module
        for name in path:
            named = getattr(named, name)
        if len(path) == 1 and path[0] in flowfeatures.__all__:
            assert inspect.getdoc(named), path
        if len(path) == 2 and path[0] in flowfeatures.__all__ and not path[1].startswith("__"):
            assert inspect.getdoc(named) or inspect.isdatadescriptor(named), path


def test_the_package_tells_of_every_class_and_function_it_exports_but_the_kinds_of_error():
    told = flowfeatures.__doc__ + (Path(__file__).parents[2] / "docs" / "flowfeatures.md").read_text()

    untold = [name for name, _ in spoken() if "." not in name and name not in told]

    assert untold == []
