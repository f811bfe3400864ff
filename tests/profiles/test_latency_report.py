"""The report round-trips and matches its schema file; the page contains its numbers and no external content."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.latency.environment import describe_environment
from sefa_edge.profiles.latency.page import histogram_of, latency_page, save_latency_page, waterfall_of
from sefa_edge.profiles.latency.report import (
    SCHEMA_PATH,
    LatencyReport,
    StageReport,
    Subject,
    json_schema,
    load_report,
    save_report,
    summarise,
)
from sefa_edge.profiles.page.axes import format_duration
from sefa_edge.profiles.page.svg import svg_of


def stage(title: str, samples_ns: list[int], budget_ns: int | None = None) -> StageReport:
    samples = np.array(samples_ns, np.int64)
    return summarise(samples, key="stage", title=title, process="test", meaning="From a to b.", budget_ns=budget_ns)


def report_of(*stages: StageReport, others: tuple[StageReport, ...] = ()) -> LatencyReport:
    subject = Subject(
        policy="lift",
        engine="model.onnx",
        engine_sha256="0" * 64,
        backend="ONNX Runtime",
        precision="fp32",
        arm="so101_sim",
        camera="sim",
        control_rate_hz=100.0,
        policy_rate_hz=10.0,
        seconds=3.0,
    )
    environment = describe_environment()
    return LatencyReport(
        schema_version=1, subject=subject, stages=list(stages), others=list(others), environment=environment
    )


def test_report_round_trip(tmp_path: Path) -> None:
    report = report_of(stage("Capture", [5, 7, 2_000_000]), others=(stage("Tick", [10_000], 10_000_000),))
    save_report(report, tmp_path / "latency.json")
    assert load_report(tmp_path / "latency.json") == report


def test_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    content = report_of(stage("Capture", [5])).model_dump(mode="json")
    content["subject"]["enigne"] = "x"
    (tmp_path / "latency.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"subject\.enigne") as caught:
        load_report(tmp_path / "latency.json")
    assert "engine" in caught.value.hint


def test_the_schema_file_matches_the_declaration() -> None:
    assert SCHEMA_PATH.read_text(encoding="utf-8") == json_schema(), (
        "write sefa_edge.profiles.latency.report.json_schema() to report.schema.json"
    )


class Page(HTMLParser):
    """Every tag with its attributes, and the text of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_self_contained_and_contains_the_numbers(tmp_path: Path) -> None:
    inference = stage("Inference", [8_000_000] * 99 + [41_200_000], 100_000_000)
    report = report_of(stage("Capture", [4_120_000]), inference, others=(inference,))
    save_latency_page(report, tmp_path / "latency.html")
    page = Page()
    page.feed((tmp_path / "latency.html").read_text(encoding="utf-8"))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    assert not [attributes for _, attributes in page.tags if {"src", "href", "srcset"} & attributes.keys()]
    for number in ("4.12 ms", "8.00 ms", "41.2 ms"):
        assert number in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 4


def test_page_escapes_its_texts() -> None:
    page = latency_page(report_of(stage("<script>alert(1)</script> & $title", [1000, 2000])))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "samples_ns",
    [
        [0],
        [1],
        [7, 7, 7],
        [1_000_000],
        [999_999, 1_000_001],
        [1, 10**12],
        [60_000, 61_000, 900_000],
        [10**9, 6 * 10**10],
    ],
)
def test_drawings_are_valid_and_stay_inside_their_frame(samples_ns: list[int]) -> None:
    measured = stage("Stage", samples_ns)
    for drawing in (histogram_of(measured), waterfall_of([measured, measured])):
        svg = ElementTree.fromstring(svg_of(drawing))
        width, height = (float(value) for value in svg.attrib["viewBox"].split()[2:])
        for rect in svg.iter("rect"):
            left, top = float(rect.attrib["x"]), float(rect.attrib["y"])
            assert left >= 0
            assert left + float(rect.attrib["width"]) <= width + 0.1
            assert top >= 0
            assert top + float(rect.attrib["height"]) <= height


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0 ns"),
        (842, "842 ns"),
        (999, "999 ns"),
        (1000, "1.00 µs"),
        (12_345, "12.3 µs"),
        (999_900, "1.00 ms"),
        (8_410_000, "8.41 ms"),
        (123_456_789, "123 ms"),
        (1_200_000_000, "1.20 s"),
        (99_960_000, "100 ms"),
    ],
)
def test_format_duration(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text
