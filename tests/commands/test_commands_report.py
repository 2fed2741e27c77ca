import json

import pyarrow.parquet as pq
import pytest
from synthetic import fail, make_experiment, make_point, point_path

from simai_rules.cli import main


@pytest.fixture
def results(tmp_path):
    root = tmp_path / "results" / "synthetic"
    make_experiment(root, elements=(10_000,), repeats=1, snapshots=5)
    return root


def test_report_makes_everything_from_whatever_is_there(results, capsys):
    fail(results / point_path("redis", 10_000), ("server", "killed by signal 9", 1.0))
    assert main(["report", str(results)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "2 of 3 points done, 1 failed"
    assert "killed by signal 9" in printed[1]
    assert printed[-1] == str(results / "report.html")
    names = {child.name for child in results.iterdir() if "~" not in child.name}
    assert names == {"summary.parquet", "summary.csv", "figures", "report.html"}
    assert {path.name for path in (results / "figures").glob("*.svg")} == {
        "throughput.svg",
        "steps.svg",
        "kernels.svg",
        "timeline.svg",
    }


def test_report_again_gives_the_same_figures_and_with_output_only_the_page(results, tmp_path):
    main(["report", str(results.parent)])
    before = {path: path.read_bytes() for path in (results / "figures").iterdir()}
    main(["report", str(results)])
    assert {path: path.read_bytes() for path in (results / "figures").iterdir()} == before
    times = {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}
    main(["report", str(results), "--output", str(tmp_path / "page.html")])
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()} == times
    assert "</html>" in (tmp_path / "page.html").read_text()


def test_summarize_and_plot_take_the_expected_points_as_json_or_lines(results, tmp_path, capsys):
    points = [point_path(backend, 10_000, repeat) for backend in ("redis", "node-local") for repeat in (0, 1)]
    for content in (json.dumps(points), json.dumps(dict.fromkeys(points)), "\n".join(points) + "\n"):
        (tmp_path / "expected").write_text(content)
        outputs = [str(tmp_path / "s.parquet"), str(tmp_path / "s.csv")]
        command = [
            "summarize",
            "--results",
            str(results),
            "--expected",
            str(tmp_path / "expected"),
            "--output",
            *outputs,
        ]
        assert main(command) == 0
        assert capsys.readouterr().out == "2 of 4 points done, 2 missing\n"
        table = pq.read_table(outputs[0])
        missing = [row for row in table.to_pylist() if row["status"] == "missing"]
        assert [(row["backend"], row["repeat"]) for row in missing] == [("redis", 1), ("node-local", 1)]
        assert set(table.column("backend").to_pylist()) == {"redis", "node-local"}
    assert main(["plot", "--results", str(results), "--output", str(tmp_path / "figures")]) == 0
    assert len(list((tmp_path / "figures").iterdir())) == 8


def test_the_config_says_which_points_there_should_be(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("name: one\nrepeats: 2\nelements: 10000\nsweep: {axes: {backend: [redis, filesystem]}}\n")
    root = tmp_path / "results" / "one"
    make_point(root, backend="redis", elements=10_000, snapshots=5)
    make_point(root, backend="node-local", elements=10_000, snapshots=5)
    assert main(["report", str(root), "--config", str(config)]) == 0
    assert capsys.readouterr().out.startswith("1 of 4 points done, 3 missing\n")
    page = (root / "report.html").read_text()
    assert "1 point in this folder, not part of the config" in page
    assert "repeats: 2" in page


def test_before_anything_ran_the_report_of_a_config_says_so(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("name: one\nrepeats: 2\n")
    assert main(["report", str(tmp_path / "results" / "one"), "--config", str(config)]) == 0
    assert capsys.readouterr().out.startswith("0 of 2 points done, 2 missing\n")


@pytest.mark.parametrize("command", [["report"], ["summarize", "--results"], ["plot", "--results"]])
def test_a_wrong_folder_is_one_clear_message(command, tmp_path, capsys):
    for folder, text in ((tmp_path / "none", "There is no folder"), (tmp_path, "holds no results")):
        assert main([*command, str(folder)]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith(f"simai-rules {command[0]}: ")
        assert text in printed
        assert printed.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_clear_message(results, capsys):
    (results / "summary.parquet").mkdir()
    assert main(["summarize", "--results", str(results)]) == 1
    assert "Cannot write" in capsys.readouterr().err
    (results / "figures").write_text("in the way")
    assert main(["plot", "--results", str(results)]) == 1
    assert "Cannot make the folder" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "text"), [("[1]", "must hold"), ("[", "Cannot read"), ("", "no points")])
def test_expected_points_that_cannot_be_read_are_one_clear_message(results, tmp_path, capsys, content, text):
    (tmp_path / "expected").write_text(content)
    assert main(["summarize", "--results", str(results), "--expected", str(tmp_path / "expected")]) == 1
    assert text in capsys.readouterr().err
