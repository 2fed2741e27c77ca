"""What the fuzz targets share: how one is started, and for how long.

    FUZZ_SECONDS=60 python tests/fuzz/fuzz_codec.py [arguments of libFuzzer …]

Each target is a script with a function that takes bytes and may raise nothing: atheris (libFuzzer) looks for bytes with
which it does, guided by which lines of simai_rules they reach. An input that it finds is written to build/fuzz/ and
can be given to the script as an argument to be run again. `make fuzz` runs all targets.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "staging")]
_MEMORY_MB = 1500
"""What a target may take in all. An input of some kilobytes that needs as much is a finding."""
_ONE_INPUT_S = 20

try:
    import atheris
except ImportError:
    print(f"{Path(sys.argv[0]).name}: skipped: atheris is not installed (pip install 'simai-rules[fuzz]').")
    sys.exit(0)


def fuzz(target: Callable[[bytes], None], seeds: Iterable[bytes], words: Iterable[str] = ()) -> None:
    """Run `target` on `seeds` and what grows out of them for FUZZ_SECONDS (60), or on the files that are given.

    words: what inputs are made of; changing single bytes hardly ever yields one of them.
    """
    found = ROOT / "build" / "fuzz"
    found.mkdir(parents=True, exist_ok=True)
    name = Path(sys.argv[0]).stem
    with tempfile.TemporaryDirectory(prefix="simai-rules-fuzz-") as corpus:
        for number, seed in enumerate(seeds):
            Path(corpus, f"seed-{number}").write_bytes(seed)
        dictionary = Path(corpus, "words")
        dictionary.write_text("".join(f"{json.dumps(word)}\n" for word in words) or '"name"')
        options = [
            f"-max_total_time={os.environ.get('FUZZ_SECONDS', '60')}",
            f"-artifact_prefix={found}/{name}-",
            f"-rss_limit_mb={_MEMORY_MB}",
            f"-timeout={_ONE_INPUT_S}",
            "-max_len=4096",
            "-print_final_stats=1",
            f"-dict={dictionary}",
        ]
        given = sys.argv[1:]
        files = [] if any(Path(word).is_file() for word in given) else [corpus]
        # libFuzzer ends the process without coming back: a child does the work, so that its corpus is removed here.
        child = os.fork()
        if not child:
            atheris.Setup([sys.argv[0], *options, *given, *files], target)
            atheris.Fuzz()
            os._exit(0)
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
