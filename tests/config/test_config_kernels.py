"""What a kernel's config may say, and what it is told where it says something else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from simai_rules.config.kernels import _NAMES, IO, KernelConfig, undivided
from simai_rules.config.messages import checked
from simai_rules.errors import ConfigError

MINIMAL = {"Stencil": {"data_size": [4, 4, 4]}} | {name: {"folder": "."} for name in IO}


def minimal(name):
    device = {"device": "cuda"} if name.startswith("Copy") else {}
    return {"name": name, **MINIMAL.get(name, {}), **device}


@pytest.mark.parametrize("name", [*_NAMES, "package.module:function", "module:Class.method", "größe:ä"])
def test_a_config_survives_point_json(name):
    config = KernelConfig(**minimal(name))
    assert KernelConfig.model_validate(json.loads(config.model_dump_json())) == config
    assert config.own == (":" in name)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"name": "FTF"}, "'FTF' is no kernel. Did you mean 'FFT'? There are: MatMulSimple2D, "),
        ({"name": "package.module"}, "a kernel of your own is given as package.module:function"),
        ({"name": "os:"}, "is no kernel"),
        ({"name": "a b:c"}, "is no kernel"),
        ({"name": "FFT", "dtype": "int8"}, "dtype: 'int8' is not known"),
        ({"name": "FFT", "dtype": "bfloat16", "device": "cuda"}, "dtype bfloat16 is for MatMulSimple2D and the copies"),
        ({"name": "MatMulSimple2D", "dtype": "bfloat16"}, "on device cuda (numpy and dpnp have none); take float32"),
        ({"name": "MatMulSimple2D", "dtype": "float16", "device": "xpu"}, "(numpy goes by way of float32); take"),
        ({"name": "FFT", "device": "gpu"}, "device: \"'gpu'\" is not allowed. It takes cpu, cuda, xpu"),
        ({"name": "FFT", "run_time": 1, "run_count": 1}, "give run_time or run_count, not both"),
        ({"name": "Stencil"}, "its length is 2; Stencil takes 3 dimensions"),
        ({"name": "Stencil", "data_size": [5, 2, 5]}, "each number is at least 3"),
        ({"name": "SpMV", "data_size": [5, 6]}, "a row of this square matrix has 5 places"),
        ({"name": "FFT", "pinned": True}, "pinned is an option of CopyHostToDevice and CopyDeviceToHost, not of FFT"),
        ({"name": "FFT", "arguments": {"a": 1}}, "arguments is an option of kernels of your own, not of FFT"),
        ({"name": "m:f", "ufunc": "cos"}, "ufunc is an option of InplaceCompute, not of m:f"),
        ({"name": "ReadNonMPI", "folder": ".", "fsync": True}, "fsync is an option of the Write kernels"),
        ({"name": "WriteNonMPI", "folder": ".", "collective": True}, "collective is an option of WriteWithMPI and"),
        ({"name": "WriteNonMPI"}, "WriteNonMPI needs a folder"),
        ({"name": "WriteNonMPI", "folder": ".", "chunks": [4]}, "chunks [4] do not fit into data_size [256, 256]"),
        ({"name": "WriteNonMPI", "folder": ".", "chunks": [4, 300]}, "chunks [4, 300] do not fit"),
        ({"name": "WriteNonMPI", "folder": ".", "device": "cuda"}, "its device is cpu"),
        ({"name": "WriteWithMPI", "folder": ".", "compression": "gzip"}, "collective: true"),
        ({"name": "AllReduce", "library": "nccl"}, "device is cpu, but has to be cuda"),
        ({"name": "AllReduce", "gpu_aware": True}, "gpu_aware is for MPI and a device other than cpu"),
        ({"name": "Halo", "data_size": [4, 4, 4, 4]}, "Halo takes 1 to 3 dimensions"),
    ],
)
def test_message(content, expected):
    with pytest.raises(ConfigError) as raised:
        checked("the config", KernelConfig, content)
    assert expected.replace("\"'gpu'\"", "'gpu'") in str(raised.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_where_they_are_sixteen_bits_indeed(dtype):
    for name in ("MatMulSimple2D", "CopyHostToDevice", "CopyDeviceToHost", "CopyDeviceToDevice"):
        assert KernelConfig(name=name, dtype=dtype, device="cuda:1").dtype == dtype
    assert KernelConfig(name="mine:f", dtype=dtype).dtype == dtype


def test_all_problems_of_a_kernel_are_told():
    with pytest.raises(ValidationError) as raised:
        KernelConfig(name="WriteNonMPI", device="cuda", pinned=True, chunks=[1])
    text = str(raised.value)
    assert all(part in text for part in ("needs a folder", "its device is cpu", "pinned is an option", "do not fit"))


@pytest.mark.parametrize(
    ("name", "size", "ranks", "expected"),
    [
        ("AllToAll", [6], 4, "4 ranks do not divide its 6 elements. 4 or 8 would do"),
        ("ReduceScatter", [2], 4, "4 would do"),
        ("WriteWithMPI", [6, 8], 4, "6 rows"),
        ("AllToAll", [2, 4], 4, ""),
        ("AllReduce", [7], 4, ""),
        ("FFT", [7], 4, ""),
    ],
)
def test_ranks_that_do_not_divide_the_data(name, size, ranks, expected):
    config = KernelConfig(name=name, data_size=size, **MINIMAL.get(name, {}))
    problem = undivided(config, ranks)
    assert expected in problem
    assert bool(problem) == bool(expected)


@given(st.integers(1, 10**9), st.integers(1, 10**5))
def test_the_numbers_that_are_proposed_would_do(elements, ranks):
    problem = undivided(KernelConfig(name="AllToAll", data_size=[elements]), ranks)
    proposed = problem.rpartition(". ")[2].removesuffix(" would do").split(" or ") if problem else []
    for number in map(int, proposed):
        assert number > 0
        assert undivided(KernelConfig(name="AllToAll", data_size=[number]), ranks) == ""


values = st.none() | st.booleans() | st.text(max_size=3) | st.integers() | st.lists(st.integers(-1, 9), max_size=5)


@given(
    st.fixed_dictionaries(
        {"name": st.sampled_from([*_NAMES, "a:b", ":", ""])},
        optional=dict.fromkeys(list(KernelConfig.model_fields)[1:], values),
    )
)
def test_whatever_it_says_the_answer_is_a_kernel_or_a_message(content):
    try:
        checked("it", KernelConfig, content)
    except ConfigError as error:
        text = str(error)
    else:
        text = "it has none"
    assert text.startswith("it has ")
