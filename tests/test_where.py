"""Where: expressions select as a person would read them, and never run as code."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendlaw.errors import InputError
from blendlaw.observations import Observation
from blendlaw.where import parse, select

ROWS = [
    Observation("Go", 1e9, 64e9, 1.0, run="1", seed=1, extra={"lr": "1e-4", "kind of": "warm"}),
    Observation("C#", 1e9, 2e9, 2.0, run="10", weights={"C#": 0.25, "Go": 0.75}),
    Observation("C++", 2e9, 32e9, 3.0, run="a", tokens_by_language={"C++": 8e9, "Go": 24e9}),
    Observation("Visual Basic", 2e9, 64e9, 4.0, stage="and", extra={"lr": "high"}),
]


def chosen(expression: str) -> list[float]:
    return [row.loss for row in select(ROWS, parse(expression))]


@pytest.mark.parametrize(
    ("expression", "losses"),
    [
        ("tokens>=6.4e10 and language!=Go", [4]),
        ("tokens >= 64000000000", [1, 4]),
        ("language=C#", [2]),
        ("language == C++ or language==Go", [1, 3]),
        ("language=='Visual Basic'", [4]),
        ('"language" = "Go"', [1]),
        ("language==go", []),  # names are kept verbatim
        ("params=1e9 and tokens<10e9 or loss>3.5", [2, 4]),
        ("loss>3.5 or params=1e9 and tokens<10e9", [2, 4]),
        ("params=1e9 and (tokens<10e9 or loss>=1)", [1, 2]),
        ("((loss<2))", [1]),
        ("loss<2 OR loss>3", [1, 4]),
        ("stage='and'", [4]),
        ("stage!='and'", [1, 2, 3]),
        ("run<9", [1]),  # as numbers where both are, else as text
        ("run='10'", [2]),
        ("run=10.0", [2]),
        ("run='10.0'", []),
        ("seed!=1", [2, 3, 4]),  # no value: only != holds
        ("seed>=0", [1]),
        ("seed<0 or seed=1", [1]),
        ("lr<=1e-3", [1]),
        ("'kind of'=warm", [1]),
        ("weights.Go>0.5", [1, 2, 3]),  # a single-language run gave it all
        ("weights.Go=0", [4]),
        ("tokens.Go>1e9", [3]),
        ("tokens.Go!=24e9", [1, 2, 4]),
        ("loss>-1", [1, 2, 3, 4]),
    ],
)
def test_selects(expression, losses):
    assert chosen(expression) == losses


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("", "a column is expected at character 1: [here]"),
        ("tokens", "one of == != < <= > >= is expected at character 7: tokens[here]"),
        ("tokens >= and x=1", "a value is expected at character 11: tokens >= [here]and x=1"),
        ("tokens>=lots", "a number is expected to compare tokens with at character 9: "),
        ("tokens>'1'", "a number is expected to compare tokens with"),
        ("weights.Go=x", "a number is expected to compare weights.Go with"),
        ("(loss>1", "')', 'and' or 'or' is expected at character 8: (loss>1[here]"),
        ("loss>1)", "'and', 'or' or the end is expected at character 7: loss>1[here])"),
        ("loss>1 loss<2", "'and', 'or' or the end is expected at character 8"),
        ("language='Go", "a quote never closed at character 10: language=[here]'Go"),
        ("loss!1", "not understood at character 5: loss[here]!1"),
        ("loss=>1", "a value is expected at character 6"),
        ("loss>nan", "a number is expected"),
        ("loss>1_0", "a number is expected"),
        ("and=1", "a column is expected"),
        ("(" * 51 + "loss>1" + ")" * 51, "more than 50 brackets within each other"),
        ("(" * 1999, "more than 50 brackets within each other"),
        ("loss>1 and " * 500, "an expression of more than 2,000 characters"),
        ("\x1b[31m", "one of == != < <= > >= is expected"),
    ],
)
def test_what_is_wrong_is_shown_where_it_is(expression, named):
    with pytest.raises(InputError) as caught:
        parse(expression)
    assert named in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("token>1", "no observation has a column 'token' (did you mean 'tokens'?)"),
        ("loss>1 or lrr=1", "no observation has a column 'lrr' (did you mean 'lr'?)"),
        ("split=test", "no observation has a column 'split'"),
        ("tokens.go>1", "no observation has a column 'tokens.go' (did you mean 'tokens.Go'?)"),
        ("weights.go>1", "no observation has a column 'weights.go' (did you mean 'weights.Go'?)"),
    ],
)
def test_a_column_that_nothing_has_is_refused(expression, named):
    with pytest.raises(InputError) as caught:
        select(ROWS, parse(expression))
    assert str(caught.value) == named
    assert select([], parse(expression)) == []


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch hacked')",
        "loss>1 and __import__('os').system('touch hacked')",
        "language==Go; import os",
        "loss.__class__.__mro__[1].__subclasses__()",
        "(lambda: 1)() > 0",
        "loss>{1:2}",
        "[x for x in ()]=1",
        "f'{exit()}'=1",
    ],
)
def test_code_is_refused_or_only_text(expression, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        select(ROWS, parse(expression))
    assert list(tmp_path.iterdir()) == []


@given(st.text(st.sampled_from("()<>=!'\" \tandorlsx1.e+-#\0é"), max_size=60) | st.text())
def test_any_text_is_parsed_or_refused(expression):
    try:
        where = parse(expression)
    except InputError:
        return
    assert isinstance(where(ROWS[0]), bool)


OPERATORS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, ">=": operator.ge}
COMPARISON = st.tuples(
    st.sampled_from(["loss", "params"]), st.sampled_from(list(OPERATORS)), st.floats(0.5, 4.5)
)
TREE = st.recursive(
    COMPARISON, lambda inner: st.tuples(st.sampled_from(["and", "or"]), inner, inner)
)


@given(TREE)
def test_agrees_with_its_own_tree(tree):
    def written(node) -> str:
        if node[0] in ("and", "or"):
            return f"({written(node[1])}) {node[0]} ({written(node[2])})"
        return f"{node[0]}{node[1]}{node[2]!r}"

    def holds(node, row) -> bool:
        if node[0] == "and":
            return holds(node[1], row) and holds(node[2], row)
        if node[0] == "or":
            return holds(node[1], row) or holds(node[2], row)
        return OPERATORS[node[1]](getattr(row, node[0]), node[2])

    expression = written(tree)
    if len(expression) <= 2000:
        where = parse(expression)
        assert [where(row) for row in ROWS] == [holds(tree, row) for row in ROWS]
