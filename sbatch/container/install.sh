#!/bin/sh
# Installs what requirements.lock pins into /opt/ekiden, in a Debian image: the one step of Dockerfile and ekiden.def.
#   sh install.sh requirements.lock [URL of a package index that has torch for another CUDA]
set -eu
lock=$1 index=${2:-}

# A compiler and Python's headers are for training.compile, ibverbs is for NCCL over InfiniBand.
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends \
  ca-certificates g++ ibverbs-providers libibverbs1 libpython3-dev python3-venv
rm -rf /var/lib/apt/lists/*

python3 -m venv /opt/ekiden
install() { /opt/ekiden/bin/python -m pip install --no-cache-dir --disable-pip-version-check --quiet "$@"; }
# As in the Makefile: torch first, since DeepSpeed's build looks for it, and told that it is built for a CPU, or the
# build of a machine with a GPU would look for a CUDA toolkit. Which device there is, DeepSpeed asks at run time.
install ${index:+--extra-index-url "$index"} -c "$lock" torch numpy setuptools wheel packaging
DS_ACCELERATOR=cpu DS_BUILD_OPS=0 install --no-build-isolation -r "$lock"
/opt/ekiden/bin/python -m pip check
