# Sourced by the other scripts: makes the project's own Python environment in .venv.
#
# What is installed is the built wheel, not the source tree, so that everything tries what is
# shipped. Nothing is downloaded, or built, when nothing changed since the last time.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
RUNTIME_EXTRAS="gemmi-program>=0.7"
TEST_TOOLS="psycopg[binary] ispyb>=12.1 gemmi>=0.6.5 pytest>=8 pytest-timeout>=2.3 pytest-xdist>=3.6 hypothesis>=6.100 aiosmtpd>=1.4"
TOOLS="$TEST_TOOLS ruff>=0.6 mypy>=1.10 import-linter>=2.0 types-PyYAML types-psutil"
# For scripts/conformance; the wheel comes last, so that commands of the same name are zwrap's.
CONFORMANCE_TOOLS="zocalo==1.5.0 workflows>=3.3 pytest>=8 pytest-mock>=3.14 requests-mock>=1.12 prometheus-client"

say() { printf '%s\n' "$*" >&2; }

find_python() {
    local candidate
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "Python 3.11 or newer is needed and was not found on PATH."
    say "On Debian 12, as root: apt-get install python3 python3-venv"
    return 1
}

make_venv() {
    local python
    python=$(find_python) || exit 1
    "$python" -m venv "$VENV" >/dev/null 2>&1 && [ -x "$VENV/bin/pip" ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Installing Debian's python3-venv ..."
        { apt-get -qq update && apt-get -qq install -y python3-venv; } >/dev/null 2>&1
        rm -rf "$VENV"
        "$python" -m venv "$VENV" >/dev/null && return
    fi
    rm -rf "$VENV"
    say "A virtual environment could not be made with $python."
    say "On Debian 12, as root: apt-get install python3-venv"
    exit 1
}

# Hash of everything that decides what is installed.
fingerprint() {
    (cd "$ROOT" && {
        printf '%s\n' "$@"
        find setup.py pyproject.toml README.md LICENSE scripts/environment.sh zwrap schedulers templates \
            -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -d' ' -f1)
}

# Debian packages whose real programs the tests run, and a program of each. As root they are
# installed; otherwise it is said what is missing, and the tests that need it fail.
prepare_programs() {
    local package program missing=""
    while read -r package program; do
        command -v "$program" >/dev/null || missing="$missing $package"
    done <<'LIST'
dials dials.scale
mariadb-client-core mariadb
mariadb-server-core /usr/sbin/mariadbd
rsync rsync
tcsh csh
unzip unzip
LIST
    [ -z "$missing" ] && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "Not installed, and needed by some tests:$missing"
        say "On Debian 12, as root: apt-get install --no-install-recommends$missing"
        return
    fi
    say "Installing Debian packages for the tests (once, about two minutes):$missing ..."
    local log
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of packages
    if ! {
        apt-get -qq update &&
            DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing
    } >"$log" 2>&1; then
        say "That failed. The end of the log:"
        tail -n 15 "$log" >&2
    fi
    rm -f "$log"
}

# prepare runtime|tools|tests|conformance: $VENV holds the wheel, and what tests and checks, tests, or
# the tests of python-zocalo, need.
prepare() {
    local kind=$1 wanted packages=$RUNTIME_EXTRAS stamp=$VENV/.prepared-$1
    [ "$kind" = tools ] && packages="$packages $TOOLS"
    [ "$kind" = tests ] && packages=$TEST_TOOLS
    [ "$kind" = conformance ] && packages=$CONFORMANCE_TOOLS
    wanted=$(fingerprint "$packages")
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    [ -x "$VENV/bin/pip" ] || { say "Setting up $VENV (once) ..."; make_venv; }
    local scratch log
    scratch=$(mktemp -d) && log=$scratch/log
    if ! {
        # shellcheck disable=SC2086  # a list of requirements
        "$VENV/bin/python" -m pip install -q --disable-pip-version-check \
            "setuptools>=77" wheel $packages &&
            cp -r "$ROOT/setup.py" "$ROOT/pyproject.toml" "$ROOT/README.md" "$ROOT/LICENSE" \
                "$ROOT/zwrap" "$ROOT/schedulers" "$ROOT/templates" "$scratch" &&
            "$VENV/bin/python" -m pip wheel -q --disable-pip-version-check --no-deps \
                --no-build-isolation -w "$scratch/dist" "$scratch" &&
            "$VENV/bin/python" -m pip install -q --disable-pip-version-check "$scratch"/dist/*.whl &&
            "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps \
                --force-reinstall "$scratch"/dist/*.whl
    } >"$log" 2>&1; then
        say "Setting up failed. The end of the log:"
        tail -n 15 "$log" >&2
        rm -rf "$scratch"
        exit 1
    fi
    rm -rf "$scratch"
    rm -f "$VENV"/.prepared-*
    printf '%s' "$wanted" >"$stamp"
    if [ "$kind" = tools ]; then # which hold all that running needs, too
        fingerprint "$RUNTIME_EXTRAS" | tr -d '\n' >"$VENV/.prepared-runtime"
    fi
}

# Lower bound of every requirement, one a line, as the wheel in .venv has them from setup.py.
lowest_versions() {
    "$VENV/bin/python" - <<'PYTHON'
from importlib.metadata import requires

from packaging.requirements import Requirement

for each in map(Requirement, requires("zwrap") or []):
    extras = ("postgresql", "ispyb", "gemmi")
    if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
        [lowest] = [bound.version for bound in each.specifier if bound.operator == ">="]
        print(f"{each.name}=={lowest}")
PYTHON
}

# prepare_lowest: .venv-lowest holds the wheel, the lowest versions that setup.py allows, and what
# tests need. Needs .venv.
prepare_lowest() {
    local versions
    versions=$(mktemp)
    lowest_versions >"$versions"
    (export PIP_CONSTRAINT=$versions; VENV=$ROOT/.venv-lowest; prepare tests) || { rm -f "$versions"; exit 1; }
    rm -f "$versions"
}
