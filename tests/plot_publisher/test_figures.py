from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

import plot_publisher
from plot_publisher import inject_plotlyjs_version, plot1d, plot_heatmap, plotly_div


def traces_of(div: str) -> list[dict[str, object]]:
    match = re.search(r"Plotly\.newPlot\(\"[^\"]+\", ", div)
    assert match is not None
    traces: list[dict[str, object]] = json.JSONDecoder().raw_decode(div[match.end() :])[0]
    return traces


def test_a_div_says_for_which_plotly_it_is_and_holds_its_data_as_json() -> None:
    div = plotly_div([{"x": np.array([1, 2]), "y": [0.5, float("nan")]}], {"title": {"text": "a"}})
    assert div.startswith("<div")
    assert f'plotlyjs-version="{plot_publisher.PLOTLYJS_VERSION}"' in div
    assert traces_of(div) == [{"x": [1, 2], "y": [0.5, None]}]


def test_text_in_a_figure_cannot_leave_its_script() -> None:
    div = plotly_div([], {"title": {"text": "</script><script>alert(1)</script><!--"}})
    assert div.count("<script") == 1
    assert div.count("</script>") == 1
    assert "<!--" not in div


def test_one_curve_or_many_with_their_errors() -> None:
    one = traces_of(str(plot1d(1, [[1, 2], [3, 4], [0.1, 0.2], [0.5, 0.5]], publish=False)))
    assert one[0]["error_y"] == {"type": "data", "array": [0.1, 0.2], "visible": True}
    many = traces_of(str(plot1d(1, [[[1], [2]], (np.array([3]), np.array([4]))], ["a", "b"], publish=False)))
    assert [trace["name"] for trace in many] == ["a", "b"]
    assert many[1]["x"] == [3]


@pytest.mark.parametrize("data", [[], [[]], [[1, 2]], [[[1, 2], [1]]]])
def test_what_is_no_curve_is_refused_with_a_sentence(data: list[object]) -> None:
    with pytest.raises(ValueError, match=r"\[x, y"):
        plot1d(1, data, publish=False)


def test_a_heat_map_and_a_surface() -> None:
    assert traces_of(str(plot_heatmap(1, [1], [2], [[3]], publish=False)))[0]["type"] == "heatmap"
    assert traces_of(str(plot_heatmap(1, [1], [2], [[3]], surface=True, publish=False)))[0]["type"] == "surface"


def test_the_version_is_put_into_divs_that_lack_it_only() -> None:
    bare = '<div><div id="x" class="plotly-graph-div" style="a"></div></div>'
    marked = inject_plotlyjs_version(bare)
    assert 'class="plotly-graph-div" style="a" plotlyjs-version="' in marked
    assert inject_plotlyjs_version(marked) == marked
    assert inject_plotlyjs_version('{"data": 1}') == '{"data": 1}'


def test_its_source_is_python_3_8_and_needs_the_standard_library_only() -> None:
    for path in Path(plot_publisher.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 8))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        known = {"__future__", "collections", "json", "math", "os", "pathlib", "plot_publisher", "re", "ssl", "string"}
        assert {name.split(".")[0] for name in imported} <= known | {"sys", "time", "typing", "urllib", "uuid"}
