# Sourced by the scripts here: where rq and rq-dashboard are installed, and where redis is.
# shellcheck shell=bash

export REDIS_PORT=${REDIS_PORT:-6399}
venv=${XDG_CACHE_HOME:-$HOME/.cache}/sungrazer/rq-dashboard

# Installs the packages of requirements.txt into a virtual environment of their own, once.
environment() {
    local wanted=$root/examples/rq-dashboard/requirements.txt
    packages python3=python3
    cmp -s "$wanted" "$venv/installed.txt" && return
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    echo "Installing $(grep -v '^#' "$wanted" | tr '\n' ' ')into $venv (pip) …"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" ||
        fail "pip cannot install what $wanted names"
    cp "$wanted" "$venv/installed.txt"
}
