# Sourced by the scripts here: where rq and rq-dashboard are installed, and where redis is.
# shellcheck shell=bash

export REDIS_PORT=${REDIS_PORT:-6399}
venv=${XDG_CACHE_HOME:-$HOME/.cache}/sungrazer/rq-dashboard

# Installs the packages of requirements.txt into a virtual environment of their own, once.
environment() {
    python_packages "$venv" "$root/examples/rq-dashboard/requirements.txt"
}
