"""Two kinds of import contract that import-linter lacks: what a file may import, and which files are private.

The fields declare what stands in pyproject.toml; on a contract that was read they are lists.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import grimp
from importlinter import Contract, ContractCheck, fields, output


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    importer: str
    imported: str
    line: int | None


class _DirectImportsContract(Contract):
    """Looks at every direct import and breaks if one is refused."""

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        refused = sorted(self._refused(graph), key=lambda link: (link.importer, link.imported))
        return ContractCheck(kept=not refused, metadata={"refused": refused})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for link in check.metadata["refused"]:
            output.print_error(f"- {link.importer} -> {link.imported} (l.{link.line})", bold=False)
        output.new_line()

    def _refused(self, graph: grimp.ImportGraph) -> Iterator[Link]:
        for importer in graph.modules:
            for imported in graph.find_modules_directly_imported_by(importer):
                if self._refuses(importer, imported):
                    details = graph.get_import_details(importer=importer, imported=imported)
                    yield Link(
                        importer=importer, imported=imported, line=details[0]["line_number"] if details else None
                    )

    def _refuses(self, importer: str, imported: str) -> bool:
        raise NotImplementedError


class OnlyContract(_DirectImportsContract):
    """The named modules import the standard library, themselves and what is listed; nothing else.

    `modules`: names such as `*.domain`, where `*` is any package; a folder of that name counts as well.
    `may_import`: `.events` is the module of the importer's own package, `*.events` that of any package.
    """

    modules: list[str] = fields.ListField(subfield=fields.StringField())  # type: ignore[assignment]
    may_import: list[str] = fields.ListField(subfield=fields.StringField())  # type: ignore[assignment]

    def _refuses(self, importer: str, imported: str) -> bool:
        kind = next((name for name in self.modules if _matches(importer, name, importer)), None)
        if kind is None or _is_standard(imported):
            return False
        own = kind.replace("*", _root(importer), 1)
        return not any(_matches(imported, name, importer) for name in (own, *self.may_import))


class PrivateContract(_DirectImportsContract):
    """The named files of each package are imported from within that package only.

    `but_for`: imports that are allowed all the same, each as `importer's package -> .file`.
    """

    packages: list[str] = fields.ListField(subfield=fields.StringField())  # type: ignore[assignment]
    files: list[str] = fields.ListField(subfield=fields.StringField())  # type: ignore[assignment]
    but_for: list[str] = fields.ListField(subfield=fields.StringField())  # type: ignore[assignment]

    def _refuses(self, importer: str, imported: str) -> bool:
        package = _root(imported)
        if f"{_root(importer)} -> {imported.removeprefix(package)}" in self.but_for:
            return False
        return (
            package in self.packages
            and package != _root(importer)
            and any(_matches(imported, f"{package}.{file}", importer) for file in self.files)
        )


def _matches(module: str, name: str, importer: str) -> bool:
    package, _, file = name.partition(".")
    wanted = {"": _root(importer), "*": _root(module)}.get(package, package)
    return module == f"{wanted}.{file}" or module.startswith(f"{wanted}.{file}.")


def _root(module: str) -> str:
    return module.partition(".")[0]


def _is_standard(module: str) -> bool:
    return _root(module) in sys.stdlib_module_names
