#!/bin/bash
# Stop what up.sh started, and the jobs on it. Running it again does nothing.
#
#   sbatch/slurm/down.sh [--wipe]     --wipe: remove the cluster's directory too
#
# EKIDEN_SLURM_ROOT is that directory, as for up.sh (${TMPDIR:-/tmp}/ekiden-slurm).
set -uo pipefail
ROOT=${EKIDEN_SLURM_ROOT:-${TMPDIR:-/tmp}/ekiden-slurm}
export SLURM_CONF=$ROOT/etc/slurm.conf

main() {
  local file
  for file in "$ROOT"/pid/slurmd.*.pid; do stop slurmd "$(basename "$file" .pid)"; done
  end_jobs
  for file in slurmctld slurmdbd mariadbd munged; do stop "$file" "$file"; done
  # proctrack/cgroup leaves these; rmdir spares those that a second cluster is using
  find /sys/fs/cgroup/freezer/slurm_mdx* -depth -type d -exec rmdir {} + 2>/dev/null
  [[ ${1:-} != --wipe ]] || rm -rf "$ROOT"
}

# stop NAME PIDFILE: end the daemon if the pid is still its own
stop() {
  local file=$ROOT/pid/$2.pid pid i
  pid=$(cat "$file" 2>/dev/null) || return
  for ((i = 0; i < 200; i++)); do
    ours "$pid" "$1" || break
    ((i)) || kill -TERM "$pid"
    sleep 0.05
  done
  ours "$pid" "$1" && echo "down.sh: $1 ($pid) ignored SIGTERM for 10 s, killing it" >&2 && kill -KILL "$pid"
  rm -f "$file"
}

# Steps outlive their slurmd, and tasks outlive a killed slurmstepd, by design. A slurmstepd is ours by its open log file,
# a task by its environment: this cluster's SLURM_CONF and a job id. Never end a caller of this script, who may be a job.
end_jobs() {
  local pid callers=" $$ " parent=$$
  while parent=$(sed -n 's/^PPid:\s//p' "/proc/$parent/status") && ((parent > 1)); do callers+="$parent "; done
  for pid in /proc/[0-9]*; do
    pid=${pid#/proc/}
    [[ $callers != *" $pid "* ]] || continue
    if ours "$pid" slurmstepd || is_task "$pid"; then kill -KILL "$pid" 2>/dev/null; fi
  done
}

is_task() {
  { tr '\0' '\n' < "/proc/$1/environ"; } 2>/dev/null |
    awk -v conf="SLURM_CONF=$SLURM_CONF" '$0 == conf {a = 1} /^SLURM_JOB_ID=/ {b = 1} END {exit !(a && b)}'
}

# ours PID NAME: it has the name, is no zombie (where init reaps late) and holds a file of ROOT open
ours() {
  grep -qE '^State:\s[^Z]' "/proc/$1/status" 2>/dev/null || return 1
  [[ $(cat "/proc/$1/comm" 2>/dev/null) == "$2" && $(readlink "/proc/$1/fd/"* 2>/dev/null) == *"$ROOT/"* ]]
}

main "$@"
