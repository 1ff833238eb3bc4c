#!/bin/bash
# Prolog of a job: kill what holds one of its GPUs and belongs to no job, such as a rank that outlived its job, or a login.
# It checks nothing else, and never fails: a prolog that does would drain the node.
#
# Spared are processes of a job (by their cgroup) and of the system (by their user), such as nvidia-persistenced.
FIRST_USER=$(awk '$1 == "UID_MIN" {print $2}' /etc/login.defs 2>/dev/null)

main() {
  local pid
  for pid in $(holders); do
    is_left_over "$pid" || continue
    logger -t clear-gpus "job ${SLURM_JOB_ID:-}: killing $pid ($(tr '\0' ' ' < "/proc/$pid/cmdline"))" 2>/dev/null
    kill -KILL "$pid" 2>/dev/null
  done
}

# The processes that have one of the job's GPUs open.
holders() {
  local gpu any=()
  for gpu in ${SLURM_JOB_GPUS//,/ }; do any+=(-o -lname "/dev/nvidia$gpu"); done
  ((${#any[@]} == 0)) || find /proc/[0-9]*/fd -maxdepth 1 "${any[@]:1}" 2>/dev/null | cut -d / -f 3 | sort -u
}

is_left_over() {
  local user
  user=$(stat -c %u "/proc/$1" 2>/dev/null) || return 1
  ((user >= ${FIRST_USER:-1000})) && ! grep -qE '/job_[0-9]+' "/proc/$1/cgroup" 2>/dev/null
}

main
exit 0
