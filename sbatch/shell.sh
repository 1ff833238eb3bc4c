#!/bin/bash
# An interactive shell on a node, with the code, packages and variables that the jobs of a run have:
#
#   sbatch/shell.sh work/gpt2-xl-ja/runs/gpt2-xl-ja --partition=gpu --gpus=1 --time=60
#
# What follows the run directory are options of srun. `python` is the run's; leave with Ctrl-D.
run=$(readlink -ev -- "${1:?name a run directory}") || exit 2
[ -f "$run/setup.sh" ] || { echo "$run: not prepared; type: ekiden pipeline prepare $run" >&2; exit 2; }
shift

# shellcheck disable=SC2016  # the shells on the node expand it
start='
[ -f ~/.bashrc ] && source ~/.bashrc
source "$run/setup.sh" single
PATH=$(dirname "$python"):$PATH
PS1="[${run##*/} \h \W]\$ "
'
# shellcheck disable=SC2016
exec srun --job-name="${run##*/}-shell" "$@" --pty \
  bash -c 'export run=$1; exec bash --rcfile <(printf %s "$2") -i' _ "$run" "$start"
