"""How seven languages write what the generator thinks of: one table of templates each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

Words = Sequence[str]


def snake(words: Words) -> str:
    return "_".join(words)


def pascal(words: Words) -> str:
    return "".join(word.capitalize() for word in words)


def camel(words: Words) -> str:
    return words[0] + pascal(words[1:])


def upper(words: Words) -> str:
    return snake(words).upper()


@dataclass(frozen=True)
class Dialect:
    """How a language spells names and types, and its templates, to be filled by ``%``.

    ``types`` are those of "int", "float", "text", "flag" and "list" (of int). ``before`` and
    ``after`` enclose functions where the language wants them in a class. ``next_case`` is for the
    cases of a ``choice`` after the first, where they differ. The defaults are those of most
    languages with braces.
    """

    variable: Callable[[Words], str]
    function: Callable[[Words], str]
    field: Callable[[Words], str]
    case: Callable[[Words], str]
    types: Mapping[str, str]
    header: str
    record: str
    record_field: str
    choice: str
    define: str
    parameter: str
    count: str
    each: str
    join: str
    length: str
    record_end: str = "}"
    choice_case: str = "%(name)s,"
    next_case: str | None = None
    choice_end: str = "}"
    comment: str = "// %s."
    declare: str = "%(name)s = %(value)s;"
    test: str = "if (%s) {"
    otherwise: str = "} else {"
    before: str = ""
    after: str = ""
    end: str = "}"
    stop: str = ";"
    tab: str = "    "
    logic: tuple[str, str, str] = ("&&", "||", "!")
    flags: tuple[str, str] = ("true", "false")
    quote: str = '"'


def _types(number: str, real: str, text: str, flag: str, several: str) -> Mapping[str, str]:
    return {"int": number, "float": real, "text": text, "flag": flag, "list": several}


PYTHON = Dialect(
    variable=snake,
    function=snake,
    field=snake,
    case=upper,
    types=_types("int", "float", "str", "bool", "list[int]"),
    header='"""%(title)s."""\n\nfrom dataclasses import dataclass\nfrom enum import Enum\n',
    comment="# %s.",
    record="@dataclass\nclass %(name)s:",
    record_field="%(name)s: %(type)s",
    record_end="",
    choice="class %(name)s(Enum):",
    choice_case='%(name)s = "%(plain)s"',
    choice_end="",
    define="def %(name)s(%(parameters)s) -> %(type)s:",
    parameter="%(name)s: %(type)s",
    declare="%(name)s = %(value)s",
    test="if %s:",
    otherwise="else:",
    count="for %(name)s in range(%(value)s):",
    each="for %(name)s in %(value)s:",
    join='f"{%s} {%s}"',
    length="len(%s)",
    end="",
    stop="",
    logic=("and", "or", "not "),
    flags=("True", "False"),
)

JAVA = Dialect(
    variable=camel,
    function=camel,
    field=camel,
    case=upper,
    types=_types("int", "double", "String", "boolean", "List<Integer>"),
    header="package org.example.%(module)s;\n\nimport java.util.List;\n",
    comment="/** %s. */",
    record="class %(name)s {",
    record_field="private %(type)s %(name)s;",
    choice="enum %(name)s {",
    define="public static %(type)s %(name)s(%(parameters)s) {",
    parameter="%(type)s %(name)s",
    declare="%(type)s %(name)s = %(value)s;",
    count="for (int %(name)s = 0; %(name)s < %(value)s; %(name)s++) {",
    each="for (int %(name)s : %(value)s) {",
    join='%s + " " + %s',
    length="%s.size()",
    before="public final class %(name)s {",
    after="}",
)

JAVASCRIPT = Dialect(
    variable=camel,
    function=camel,
    field=camel,
    case=upper,
    types=_types("number", "number", "string", "boolean", "number[]"),
    header="'use strict';\n",
    record="class %(name)s {",
    record_field="%(name)s = %(value)s;",
    choice="const %(name)s = Object.freeze({",
    choice_case="%(name)s: '%(plain)s',",
    choice_end="});",
    define="function %(name)s(%(parameters)s) {",
    parameter="%(name)s",
    declare="let %(name)s = %(value)s;",
    count="for (let %(name)s = 0; %(name)s < %(value)s; %(name)s++) {",
    each="for (const %(name)s of %(value)s) {",
    join="`${%s} ${%s}`",
    length="%s.length",
    tab="  ",
    quote="'",
)

TYPESCRIPT = replace(
    JAVASCRIPT,
    case=pascal,
    header="import { strict as assert } from 'node:assert';\n",
    comment="/** %s. */",
    record="export interface %(name)s {",
    record_field="readonly %(name)s: %(type)s;",
    choice="export enum %(name)s {",
    choice_case="%(name)s = '%(plain)s',",
    choice_end="}",
    define="export function %(name)s(%(parameters)s): %(type)s {",
    parameter="%(name)s: %(type)s",
    declare="let %(name)s: %(type)s = %(value)s;",
)

CSHARP = Dialect(
    variable=camel,
    function=pascal,
    field=pascal,
    case=pascal,
    types=_types("int", "double", "string", "bool", "IReadOnlyList<int>"),
    header="using System;\nusing System.Collections.Generic;\n\nnamespace Example.%(module)s;\n",
    comment="/// <summary>%s.</summary>",
    record="public sealed class %(name)s\n{",
    record_field="public %(type)s %(name)s { get; set; }",
    choice="public enum %(name)s\n{",
    define="public static %(type)s %(name)s(%(parameters)s)\n{",
    parameter="%(type)s %(name)s",
    declare="var %(name)s = %(value)s;",
    test="if (%s)\n{",
    otherwise="}\nelse\n{",
    count="for (var %(name)s = 0; %(name)s < %(value)s; %(name)s++)\n{",
    each="foreach (var %(name)s in %(value)s)\n{",
    join='$"{%s} {%s}"',
    length="%s.Count",
    before="public static class %(name)s\n{",
    after="}",
)

GO = Dialect(
    variable=camel,
    function=pascal,
    field=pascal,
    case=pascal,
    types=_types("int", "float64", "string", "bool", "[]int"),
    header='package %(module)s\n\nimport "fmt"\n',
    record="type %(name)s struct {",
    record_field="%(name)s %(type)s",
    choice="type %(name)s int\n\nconst (",
    choice_case="%(owner)s%(name)s %(owner)s = iota",
    next_case="%(owner)s%(name)s",
    choice_end=")",
    define="func %(name)s(%(parameters)s) %(type)s {",
    parameter="%(name)s %(type)s",
    declare="%(name)s := %(value)s",
    test="if %s {",
    count="for %(name)s := 0; %(name)s < %(value)s; %(name)s++ {",
    each="for _, %(name)s := range %(value)s {",
    join='fmt.Sprintf("%%v %%v", %s, %s)',
    length="len(%s)",
    stop="",
    tab="\t",
)

RUST = Dialect(
    variable=snake,
    function=snake,
    field=snake,
    case=pascal,
    types=_types("i64", "f64", "&str", "bool", "&[i64]"),
    header="//! %(title)s.\n\nuse std::fmt;\n",
    comment="/// %s.",
    record="#[derive(Debug, Clone)]\npub struct %(name)s {",
    record_field="pub %(name)s: %(type)s,",
    choice="#[derive(Debug, Clone, Copy, PartialEq, Eq)]\npub enum %(name)s {",
    define="pub fn %(name)s(%(parameters)s) -> %(type)s {",
    parameter="%(name)s: %(type)s",
    declare="let mut %(name)s = %(value)s;",
    test="if %s {",
    count="for %(name)s in 0..%(value)s {",
    each="for &%(name)s in %(value)s {",
    join='&format!("{} {}", %s, %s)',
    length="%s.len() as i64",
)

DIALECTS: Mapping[str, Dialect] = {
    "Python": PYTHON,
    "Java": JAVA,
    "JavaScript": JAVASCRIPT,
    "TypeScript": TYPESCRIPT,
    "C#": CSHARP,
    "Go": GO,
    "Rust": RUST,
}
