# Sourced by demo.sh and test.sh: `make_environment EXTRA` leaves a virtual environment in .venv with recsys_dl[EXTRA] at
# the versions of requirements/lock.txt, and `.venv/bin` first on PATH. Re-runnable: what is already there is kept.

say() { printf '\n==> %s\n' "$*"; }
die() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

find_python() {
  local name
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
    if command -v "$name" >/dev/null 2>&1 && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

install() {
  local log="$environment/install.log"
  echo "    pip install $*"
  if ! "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -c requirements/lock.txt "$@" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    if grep -qiE 'no space left|disk quota' "$log"; then
      die "the disk is full; about 4 GB are needed for the environment (10 GB where torch brings its CUDA libraries)"
    elif grep -qiE 'connection|resolve|timed out|network|no matching distribution' "$log"; then
      die "the packages could not be fetched; check the network (or pip's index settings) and run this again: it goes on where it stopped"
    fi
    die "pip could not install $*; its last lines are above, the whole in $log"
  fi
}

make_environment() {
  local extra="$1" python free stamp
  environment="$PWD/.venv"
  python=$(find_python) || die "Python 3.10 or newer is needed and was not found; install it, or say where it is: PYTHON=/path/to/python3 $0"
  free=$(df -Pk . | awk 'NR == 2 { print $4 }')
  stamp="$environment/.installed-$extra-$(cat pyproject.toml requirements/lock.txt | sha256sum | cut -c1-16)"
  if [ ! -e "$stamp" ]; then
    say "Environment: $("$python" --version) -> .venv, recsys_dl[$extra] at the versions of requirements/lock.txt"
    [ "$free" -ge 4000000 ] || die "about 4 GB of disk are needed here, $((free / 1024)) MB are free"
    if ! "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
      rm -rf "$environment"
      "$python" -m venv "$environment" || die "$python cannot make a virtual environment; on Debian or Ubuntu install python3-venv"
    fi
    install torch # first: where a CPU build is on offer, nothing later replaces it
    install -e ".[$extra]"
    touch "$stamp"
  fi
  PATH="$environment/bin:$PATH"
  # Some machines set these for an old OpenBLAS; they slow a current NumPy down.
  unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
}
