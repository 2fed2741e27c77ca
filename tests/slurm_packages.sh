#!/usr/bin/env bash
# Bring Slurm's programs and munge into a folder, without root and without changing this machine: Debian's packages and
# what they need that is not installed here, downloaded by apt with lists of its own, and unpacked.
#   tests/slurm_packages.sh FOLDER        FOLDER/bin then holds the programs, ready to be called
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)

if (PATH=$PATH:/usr/sbin && command -v munged slurmctld slurmd slurmstepd sbatch srun >/dev/null); then
    touch "$folder/.installed"  # they are on the PATH
    exit
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Slurm: this machine has no apt-get; where slurmctld, slurmd, sbatch and munged are on the PATH, they are used." >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/packages"
apt=(apt-get -qq -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1
    -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)
"${apt[@]}" update
# A simulated installation names what is missing here, and installs nothing.
missing=$("${apt[@]}" install --simulate --no-install-recommends slurmctld slurmd slurm-client munge |
    sed -n 's/^Inst \([^ ]*\).*/\1/p')
(cd "$work/packages" && "${apt[@]}" download $missing)
for package in "$work"/packages/*.deb; do dpkg -x "$package" "$folder"; done

# The linker looks for both Slurm's own library and those that were missing.
plugins=$(dirname "$(find "$folder/usr/lib" -name libslurmfull.so -print -quit)")
rm -rf "$folder/bin" && mkdir "$folder/bin"
for program in "$folder"/usr/bin/* "$folder"/usr/sbin/*; do
    name=${program##*/}
    # Debian's alternatives give slurmctld-wlm its usual name; nobody has run them here.
    wrapper=$folder/bin/${name%-wlm}
    printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s:%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"\nexec "%s" "$@"\n' \
        "$plugins" "${plugins%/*}" "$program" >"$wrapper"
    chmod +x "$wrapper"
done
ln -sfn "$plugins" "$folder/plugins"
touch "$folder/.installed"
