"""The embedded corpus: Python's own documentation, English text that is wherever Python is.

It is `pydoc_data.topics` and the docstrings of the standard library, which is parsed and never imported.
"""

import ast
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from clm.data.sources.documents import DOCUMENTS_VERSION, Notes, split_rows
from clm.data.sources.packed import Batch, gather

EXTRACTION_VERSION = 1  # raise it when the same Python would give other documents
MIN_CHARACTERS = 200  # a module whose docstrings are shorter teaches nothing
# Tests, generated tables, and what distributions put beside the standard library.
SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "__pycache__",
    "pydoc_data",
}
_SURROGATE = re.compile("[\ud800-\udfff]")  # not text; a docstring may hold one


class PythonDocs:
    """The documentation as documents: one a topic, one a module. The same Python gives the same bytes."""

    name = "python-docs"
    size_bytes = None

    def __init__(self, separator: str | None = None) -> None:
        """Take a separator as rows do (documents.split_rows)."""
        self.origin = f"the documentation of Python {sys.version.split()[0]}"
        self.separator = separator
        self.bytes_read = 0
        self.notes = Notes()
        self._texts: list[str] | None = None  # a few megabytes, wanted several times over

    def fingerprint(self) -> dict:
        """Python's version and those of the extraction."""
        return {
            "corpus": self.name,
            "python": sys.version,
            "extraction": EXTRACTION_VERSION,
            "separator": self.separator,
            "documents": DOCUMENTS_VERSION,
        }

    def documents(self) -> Iterator[Batch]:
        """All documents, in order."""
        if self._texts is None:
            self._texts = [*_topics(), *_modules()]
        self.bytes_read = 0
        for batch in gather(split_rows([self._texts], self.separator)):
            self.bytes_read += sum(map(len, batch.documents))
            yield batch

    def parts(self) -> list["PythonDocs"]:
        """Itself: it is small."""
        return [self]


def _topics() -> Iterator[str]:
    from pydoc_data.topics import topics  # half a megabyte that only this corpus needs

    for name in sorted(topics):
        text = topics[name].strip() + "\n"
        if len(text) >= MIN_CHARACTERS:
            yield text


def _modules() -> Iterator[str]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).parts):
        parts = path.relative_to(root).with_suffix("").parts
        folders = parts[:-1]
        if SKIPPED_FOLDERS.intersection(folders) or any(name.startswith("config-") for name in folders):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):  # doubtful escapes in other people's code
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):  # templates, and samples of Python 2
            continue
        name = ".".join(folders if parts[-1] == "__init__" else parts)
        text = "\n\n".join(_docstrings(tree, name)) + "\n"
        if len(text) >= MIN_CHARACTERS:
            yield text


def _docstrings(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
        if text and not _SURROGATE.search(text):
            yield f"{name}\n\n{text}"
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _docstrings(child, f"{name}.{child.name}" if _has_body(child) else name)


def _has_body(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
