"""Each kind of log is known and read; what is wrong with one is said with its line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_logs import csv_text, darshan_text, lognormal, nekrs_text

from simai_rules.errors import UserError
from simai_rules.fit.distribution import two_sample_distance
from simai_rules.fit.log import read_log

TIMES = lognormal(30)


def log_of(tmp_path, text, **options):
    file = tmp_path / "run.log"
    file.write_text(text)
    return read_log(file, **options)


@given(times=st.lists(st.floats(1e-9, 1e6), min_size=2, max_size=50))
@settings(max_examples=50, deadline=None)
def test_every_time_of_a_csv_file_is_read(tmp_path_factory, times):
    file = tmp_path_factory.mktemp("csv") / "log.csv"
    file.write_text(csv_text(times))
    assert read_log(file).seconds.tolist() == times


@pytest.mark.parametrize(
    ("header", "factor"),
    [
        ("time_s", 1),
        ("time_ms", 1e-3),
        ("Step Time (us)", 1e-6),
        ("elapsed [ns]", 1e-9),
        ("duration", 1),
        ("seconds", 1),
        ("time [msec]", 1e-3),
        ("time(milliseconds)", 1e-3),
        ("time_µs", 1e-6),
        ("stepTimeMs", 1e-3),
        ("iterationTime", 1),
        ("time (min)", 60),
    ],
)
def test_units(tmp_path, header, factor):
    log = log_of(tmp_path, csv_text(TIMES / factor, header))
    assert log.kind == "CSV file"
    assert log.seconds == pytest.approx(TIMES)


def test_a_name_that_ends_like_a_unit(tmp_path):
    # The least time, most likely, and no minutes.
    assert log_of(tmp_path, csv_text(TIMES, "time_min"), column="time_min").seconds == pytest.approx(TIMES)


def test_columns_and_separators(tmp_path):
    text = "# a comment\nstep;gpu_ms;total_ms\n\n1;3;5\n2;4;6\n"
    assert log_of(tmp_path, text, column="total_ms").seconds.tolist() == [0.005, 0.006]
    text = "time,note\n0.1,\n  # half\n0.2,,\n"
    assert log_of(tmp_path, text).seconds.tolist() == [0.1, 0.2]
    assert log_of(tmp_path, "0.1\n0.2\n").seconds.tolist() == [0.1, 0.2]
    assert log_of(tmp_path, "\ufeffwhatever\n0.1\n0.2\n").seconds.tolist() == [0.1, 0.2]


@pytest.mark.parametrize("lines", [1, 2])
def test_nekrs(tmp_path, lines):
    log = log_of(tmp_path, nekrs_text(TIMES, lines=lines))
    assert log.kind == "nekRS log"
    assert log.seconds == pytest.approx(TIMES, rel=6e-3)  # it writes three digits


@given(late=st.lists(st.floats(0, 4e-5), min_size=30, max_size=30))
@settings(max_examples=20, deadline=None)
def test_times_are_compared_with_the_digits_that_the_log_has(tmp_path_factory, late):
    file = tmp_path_factory.mktemp("digits") / "nek.log"
    file.write_text(nekrs_text(TIMES))
    log = read_log(file)
    assert log.resolution == pytest.approx(1e-4)  # 3.15e-02 s
    assert log.as_written(log.seconds) == pytest.approx(log.seconds, abs=1e-12)
    # A mini-app is never early, and up to 0.04 ms late here.
    assert two_sample_distance(log.as_written(log.seconds), log.as_written(log.seconds + late)) == 0


def test_another_codes_log(tmp_path):
    text = "Step 1: energy -3.2, elapsed time = 12.5 ms\nStep 2: energy -3.1, elapsed time = 13 ms\n"
    assert log_of(tmp_path, text).seconds == pytest.approx([0.0125, 0.013])


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("12.5ms", 0.0125), ("12.5 msec,", 0.0125), ("12.5 us", 12.5e-6), ("12.5 µs", 12.5e-6), ("12.5 sec", 12.5),
     ("2 min", 120), ("12.5", 12.5), ("12.5 residual 3", 12.5), ("1.25e1s", 12.5)],
)  # fmt: skip
def test_units_of_another_codes_log(tmp_path, written, seconds):
    text = "".join(f"Step {number}: elapsed time = {written}\n" for number in range(3))
    assert log_of(tmp_path, text).seconds == pytest.approx([seconds] * 3)


def test_no_order_is_seen_in_equal_or_few_times(tmp_path):
    assert len(log_of(tmp_path, "0.5\n" * 50).seconds) == 50
    assert len(log_of(tmp_path, "".join(f"{number}\n" for number in range(1, 19))).seconds) == 18


@given(gaps=st.lists(st.floats(0.5, 50), min_size=3, max_size=12), files=st.sampled_from([1, 4]))
@settings(max_examples=30, deadline=None)
def test_darshan(tmp_path_factory, gaps, files):
    file = tmp_path_factory.mktemp("darshan") / "log.txt"
    file.write_text(darshan_text(gaps, 0.25, files_per_burst=files))
    log = read_log(file, skip=3)
    assert log.kind == "Darshan log"
    assert log.seconds == pytest.approx(gaps[1:], abs=1e-5)
    assert log.whole == pytest.approx(np.array(gaps[1:]) + 0.25, abs=1e-5)
    assert log.written == 2_000_000  # of a rank, and there are four


def test_leading_iterations_are_start_up(tmp_path):
    log = log_of(tmp_path, csv_text([5, 3, *TIMES]), skip=2)
    assert log.start == 8
    assert log.seconds == pytest.approx(TIMES)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty"),
        ("time\n1\nfast\n", {}, "line 3: no number in the column 'time': 'fast'"),
        ("time\n1\n-2\n", {}, r"line 3: -2 is no iteration time"),
        ("time\n1\nnan\n", {}, "line 3: nan is no iteration time"),
        ("time\n", {}, "number of iterations in it is 0"),
        ("time\n1\n1e-300\n", {}, "line 3: 1e-300 is 1e-300 s, which no iteration takes"),
        ("time_ns\n1\n1e300\n", {}, "1e\\+291 s, which no iteration takes"),
        ("time\n1\n1_000\n", {}, "line 3: no number in the column 'time': '1_000'"),
        ("time\n1,5\n", {}, "line 2: 2 columns, but the first line has 1: '1,5'.* Write 0.5, not 0,5"),
        ("step;time\n1;0,5\n", {}, "line 2: no number in the column 'time': '0,5'. Write 0.5, not 0,5"),
        ("time of all\n1 2\n", {}, "'1 2'. Columns are separated by"),
        ("time,time\n1,2\n", {}, "has several columns 'time'"),
        ("a,a\n1,2\n", {"column": "a"}, "has 2 columns 'a'"),
        ("step,time (cycles)\n1,2\n", {}, "unit of the column 'time \\(cycles\\)' is not known"),
        ("time\n1\0\n", {}, "is no text in UTF-8"),
        (csv_text(np.cumsum(TIMES), "time"), {}, "greater than the one before it, as time stamps are"),
        (nekrs_text(np.cumsum(TIMES)), {}, "greater than the one before it, as time stamps are"),
        ("step 1: elapsed=3fs\nstep 2: elapsed=3fs\n", {}, "line 1: 'fs' after the time 3 is no unit"),
        ("time\n1\n", {}, "number of iterations in it is 1, and 0 of them are left out .* it takes 2 or more"),
        ("time\n1\n2\n3\n", {"skip": 2}, "so 1 remain"),
        ("a,b\n1,2\n", {}, "none of its columns is known .* --column NAME: a, b"),
        ("a,total\n1,2\n", {"column": "totals"}, "no column 'totals'. Did you mean 'total'"),
        ("1,2\n3,4\n", {}, "2 columns and no header"),
        ("1\n2\n", {"column": "time"}, "no header, so it has no column 'time'"),
        ("value,probability\n1,1\n", {}, "is a histogram already"),
        ("# darshan log version: 3.41\n", {}, "no '# nprocs:' and '# run time:'"),
        (darshan_text([1, 1]), {}, "2 separate bursts of output .* it takes 3"),
        (darshan_text([1, 1, 1]).replace("8000000.000000", "many"), {}, "'many' is no value of a counter"),
    ],
)
def test_what_is_no_log(tmp_path, text, options, message):
    with pytest.raises(UserError, match=message):
        log_of(tmp_path, text, **options)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_log(tmp_path / "none.csv")
