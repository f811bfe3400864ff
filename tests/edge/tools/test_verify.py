"""`sefa-edge verify`: an engine equals itself, a changed one does not, and what cannot be compared is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sefa_edge.cli import main
from sefa_edge.edge.pictures import read_picture
from sefa_edge.edge.tools.demonstrations.dataset_writer import DatasetInfo, DatasetWriter, Episode
from sefa_edge.profiles.card import card_path, load_card, save_card
from sefa_edge.profiles.files import sha256_of
from sefa_edge.profiles.page.style import light_rgb
from sefa_edge.profiles.verification import VerificationReport, load_verification, parse_verification

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "edge/shipped/lift/model.onnx"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight episodes of random joints and pictures, twice the size of the engines' input."""
    return write_dataset(tmp_path_factory.mktemp("dataset") / "demo", JOINTS)


def write_dataset(folder: Path, joints: tuple[str, ...], camera: str = "front") -> Path:
    writer = DatasetWriter(folder, DatasetInfo("lift", "so101_follower", 10, joints, {camera: (192, 192)}))
    for index in range(8):
        random, episode = np.random.default_rng(index), Episode()
        for _ in range(12):
            pose = random.uniform(0, 90, len(joints))
            episode.append(pose, pose, {camera: random.integers(0, 256, (192, 192, 3), np.uint8)})
        writer.add(episode)
    writer.close()
    return folder


def changed_copy(engine: Path, folder: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> Path:
    """The engine with every float weight passed through `change`, and a card with its hash."""
    model = onnx.load(engine)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(change(tensor.name, value).astype(np.float32), tensor.name))
    folder.mkdir()
    path = folder / engine.name
    path.write_bytes(model.SerializeToString())
    save_card(load_card(engine).model_copy(update={"engine_sha256": sha256_of(path)}), path)
    return path


def shift_elbow(name: str, value: np.ndarray) -> np.ndarray:
    """The reach engine's elbow goes to a target half a degree further: step k differs by 0.5 * 3 % * (k + 1)."""
    if name == "target":
        value = value.copy()
        value[0, 2] += 0.5
    return value


def edit_card(engine: Path, **changes: object) -> None:
    card = json.loads(card_path(engine).read_text())
    card_path(engine).write_text(json.dumps(card | changes))


def verify(folder: Path, *words: str | Path) -> tuple[int, VerificationReport]:
    report = folder / "report.json"
    code = main(["verify", *map(str, words), "--json", str(report)])
    return code, load_verification(report)


def unchanged(name: str, value: np.ndarray) -> np.ndarray:
    """All weights unchanged; the file differs only in the name of its graph, on which nothing depends."""
    return value


def twin_of(engine: Path, folder: Path) -> Path:
    """Another file that computes the same."""
    twin = changed_copy(engine, folder, unchanged)
    model = onnx.load(twin)
    model.graph.name = "twin"
    twin.write_bytes(model.SerializeToString())
    save_card(load_card(engine).model_copy(update={"engine_sha256": sha256_of(twin)}), twin)
    return twin


@pytest.mark.slow
def test_an_engine_equals_another_that_computes_the_same(tmp_path: Path, reach_engine: Path, dataset: Path) -> None:
    twin = twin_of(reach_engine, tmp_path / "twin")
    code, report = verify(tmp_path, reach_engine, twin, "--dataset", dataset)
    assert (code, report.passed, report.error.overall.max) == (0, True, 0)
    assert (report.schema_version, report.unproven) == (1, None)
    assert "unproven" not in json.loads((tmp_path / "report.json").read_text())
    assert all(joint.ticks.max == 0 for joint in report.error.joints)
    assert (report.error.samples, report.episodes) == (24, 2)  # two of eight episodes, all of their frames
    assert report.budget_p99_deg == 0.005
    assert report.reference.calls == report.candidate.calls == 200
    assert 0 < report.reference.p50_ns <= report.reference.p99_ns


@pytest.mark.slow
def test_a_known_difference_is_found_where_it_is(
    tmp_path: Path, reach_engine: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = changed_copy(reach_engine, tmp_path / "changed", shift_elbow)
    words = (reach_engine, changed, "--dataset", dataset, "--samples", "16", "--seed", "5")
    code, report = verify(tmp_path, *words)
    assert (code, report.passed, report.error.samples) == (1, False, 16)
    assert report.error.worst_joint == "elbow_flex"
    elbow = report.error.joints[2]
    expected = 0.5 * 0.03 * np.arange(1, 17)
    np.testing.assert_allclose([step.max for step in elbow.steps], expected, rtol=1e-3)
    assert elbow.ticks.max == pytest.approx(expected[-1] * 4095 / 360, rel=1e-3)
    assert max(joint.joint.max for joint in report.error.joints if joint.name != "elbow_flex") < 1e-4
    assert "OVER the budget" in capsys.readouterr().out
    assert verify(tmp_path, *words, "--budget-p99-deg", "0.3")[0] == 0
    assert verify(tmp_path, *words)[1].frames == report.frames


@pytest.mark.slow
def test_the_budget_is_that_of_the_candidates_precision(tmp_path: Path, reach_engine: Path, dataset: Path) -> None:
    changed = changed_copy(reach_engine, tmp_path / "changed", shift_elbow)
    edit_card(changed, precision="fp16")
    assert verify(tmp_path, reach_engine, changed, "--dataset", dataset)[1].budget_p99_deg == 0.05


@pytest.mark.slow
def test_standard_output_is_nothing_but_the_report(
    reach_engine: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", str(reach_engine), str(reach_engine), "--dataset", str(dataset), "--json", "-"]
    assert main([*words, "--allow-unproven"]) == 0
    written = capsys.readouterr()
    assert parse_verification(written.out).unproven == "both are the same file"
    assert "comparing 24/24" in written.err


def always_the_same(name: str, value: np.ndarray) -> np.ndarray:
    """The reach engine moves to its target in the first step: it returns the same chunk whatever its input."""
    return np.ones_like(value) if name == "ramp" else value


@pytest.mark.slow
def test_a_comparison_that_cannot_fail_proves_nothing(
    tmp_path: Path, reach_engine: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    constant = changed_copy(reach_engine, tmp_path / "constant", always_the_same)
    twin = twin_of(constant, tmp_path / "twin")
    for words, reason in (
        ((reach_engine, reach_engine), "both are the same file"),
        ((constant, twin), "an engine that gives the same chunk for all 24 sample(s) would be within the budget"),
        ((reach_engine, twin_of(reach_engine, tmp_path / "reach"), "--samples", "1"), "for all 1 sample(s)"),
        ((reach_engine, tmp_path / "reach" / reach_engine.name, "--budget-p99-deg", "360"), "the budget of 360"),
    ):
        code, report = verify(tmp_path, *words, "--dataset", dataset)
        assert (code, report.passed, report.schema_version) == (1, False, 2)
        assert reason in str(report.unproven)
        assert f"PROVES NOTHING: {report.unproven}" in capsys.readouterr().out
    assert verify(tmp_path, constant, twin, "--dataset", dataset, "--allow-unproven")[0] == 0
    assert verify(tmp_path, reach_engine, constant, "--dataset", dataset, "--allow-unproven")[0] == 1


@pytest.mark.slow
def test_the_worst_frames_are_drawn(tmp_path: Path, reach_engine: Path, dataset: Path) -> None:
    changed = changed_copy(reach_engine, tmp_path / "changed", shift_elbow)
    folder = tmp_path / "worst"
    verify(tmp_path, reach_engine, changed, "--dataset", dataset, "--worst-pictures", folder)
    drawn = sorted(folder.iterdir())
    assert [path.name.split("-episode")[0] for path in drawn] == [f"worst-{rank}" for rank in range(1, 9)]
    picture = read_picture(drawn[0])
    plots = picture[26:, -750:]
    red = (
        (np.abs(plots.astype(int) - light_rgb("difference")).sum(axis=2) < 20).reshape(2, 150, 3, 250).sum(axis=(1, 3))
    )
    assert np.unravel_index(red.argmax(), red.shape) == (0, 2)  # elbow_flex: upper right
    assert red.sum() == red[0, 2]  # the others do not differ


def test_results_that_are_not_finite_fail_and_are_reported(
    tmp_path: Path, reach_engine: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def overflow(name: str, weights: np.ndarray) -> np.ndarray:
        return np.full_like(weights, 3e38) if name == "zero" else weights  # the factor of the picture's brightness

    changed = changed_copy(reach_engine, tmp_path / "changed", overflow)
    assert main(["verify", str(reach_engine), str(changed), "--dataset", str(dataset)]) == 1
    error = capsys.readouterr().err.splitlines()[-2]
    assert error.startswith("error: the candidate returns")
    assert "for shoulder_pan at sample 0, step 0" in error
    assert main(["verify", str(changed), str(reach_engine), "--dataset", str(dataset)]) == 2


def other_joints(card: dict) -> dict:
    return {"joints": [card["joints"][1], card["joints"][0], *card["joints"][2:]]}


def other_horizon(card: dict) -> dict:
    shape = [8, 6]
    tensors = {name: card[name] | {"shape": shape} for name in ("noise_tensor", "chunk_tensor")}
    return {"timing": card["timing"] | {"horizon": 8, "execute_steps": 8}, **tensors}


def other_camera(card: dict) -> dict:
    return {"cameras": [card["cameras"][0] | {"name": "wrist"}]}


def other_rate(card: dict) -> dict:
    return {"timing": card["timing"] | {"policy_rate_hz": 15.0}}


@pytest.mark.parametrize(
    ("change", "words"),
    [(other_joints, "joints"), (other_horizon, "horizon"), (other_camera, "cameras"), (other_rate, "rate")],
)
def test_engines_of_two_policies_are_refused(
    tmp_path: Path,
    reach_engine: Path,
    dataset: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict], dict],
    words: str,
) -> None:
    changed = changed_copy(reach_engine, tmp_path / "changed", lambda name, value: value)
    edit_card(changed, **change(json.loads(card_path(changed).read_text())))
    assert main(["verify", str(reach_engine), str(changed), "--dataset", str(dataset)]) == 2
    error = capsys.readouterr().err
    assert f"the engines differ in {words}" in error
    assert len(error.splitlines()) == 2


@pytest.mark.slow
def test_datasets_of_another_robot_are_refused(
    tmp_path: Path, reach_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_joints = write_dataset(tmp_path / "two", JOINTS[:2])
    other_view = write_dataset(tmp_path / "view", JOINTS, camera="wrist")
    for folder, words in ((two_joints, "dataset joints: shoulder_pan"), (other_view, "has no camera 'front'")):
        assert main(["verify", str(reach_engine), str(reach_engine), "--dataset", str(folder)]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("--samples", "0"),
        ("--seed", "-1"),
        ("--threads", "0"),
        ("--budget-p99-deg", "-1"),
        ("--budget-p99-deg", "nan"),
        ("--json", "/nowhere/report.json"),
        ("--worst-pictures", "/dev/null/x"),
        ("--arm", "so102"),
    ],
)
def test_wrong_use_is_reported_before_any_work(reach_engine: Path, dataset: Path, words: tuple[str, str]) -> None:
    assert main(["verify", str(reach_engine), str(reach_engine), "--dataset", str(dataset), *words]) == 2


@pytest.mark.sim
@pytest.mark.once
def test_the_shipped_engine_on_recordings_of_the_expert(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert main(["record", "--expert", "lift", "--episodes", "3", "--size", "96", "-o", str(folder)]) == 0
    assert verify(tmp_path, SHIPPED, SHIPPED, "--dataset", folder)[1].error.overall.max == 0
    random = np.random.default_rng(0)

    def disturb(name: str, value: np.ndarray) -> np.ndarray:
        return value * (1 + 0.01 * random.standard_normal(value.shape)) if value.ndim > 1 else value

    changed = changed_copy(SHIPPED, tmp_path / "changed", disturb)
    code, report = verify(tmp_path, SHIPPED, changed, "--dataset", folder)
    assert code == 1
    assert 0.1 < report.error.overall.p99 < 20
