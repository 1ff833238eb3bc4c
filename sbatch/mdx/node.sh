#!/bin/bash
# Make this machine a node of a Slurm: munge and slurmd, limits, and a prolog that clears the GPUs.
#
#   sudo ./node.sh site.conf munge.key     the key is the controller's /etc/munge/munge.key; on the controller leave it out
#
# Running it again changes only what differs, and needs no key.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

main() {
  local before
  check_machine
  read_site "${1:-}"
  [[ " $NODES " == *" $(hostname -s)="* ]] || die "this is $(hostname -s), and $1 has no such node in NODES"
  check_gpus
  check_key "${2:-}"
  packages munge slurmd slurm-client
  before=$CHANGES
  take_key "${2:-}"
  start_munge $((CHANGES - before))
  check_hardware "$1"
  old_slurm_needs_old_cgroups
  before=$CHANGES
  write_configuration
  write_limits
  folder /var/lib/slurm/slurmd 755 root
  daemon slurmd $((CHANGES - before)) start_slurmd  # running jobs are not touched
  wait_for slurmctld scontrol ping
  finish "node $(hostname -s)"
}

check_gpus() {
  local g
  for ((g = 0; g < GPUS; g++)); do
    [[ -c /dev/nvidia$g ]] || die "no /dev/nvidia$g: install the driver first, or lower GPUS; see nvidia-smi"
  done
}

# check_key FILE: it is there, or was before, or this is the controller
check_key() {
  if [[ -n $1 ]]; then
    [[ -s $1 ]] || die "$1: no key"
  else
    [[ $(hostname -s) == "$HOST" ]] || recorded key || die "name a copy of the controller's /etc/munge/munge.key"
  fi
}

# take_key FILE: the controller's key; another cluster's is never replaced
take_key() {
  local key=/etc/munge/munge.key
  [[ -n $1 ]] || return 0
  ! cmp -s "$1" "$key" || { record key; return 0; }
  recorded key || recorded package munge || die "$key is another's: this machine belongs to another cluster"
  record key
  install -m 400 -o munge -g munge "$1" "$key"
  changed "written: $key"
}

# Slurm drains a node that has less than slurm.conf says.
check_hardware() {
  local found cpus memory
  found=$(slurmd -C | head -n 1)
  cpus=$(sed -n 's/.* CPUs=\([0-9]*\).*/\1/p' <<< "$found")
  memory=$(sed -n 's/.* RealMemory=\([0-9]*\).*/\1/p' <<< "$found")
  ((cpus >= CPUS)) || die "$1: CPUS=$CPUS: this machine has $cpus"
  ((memory >= MEMORY_MB)) || die "$1: MEMORY_MB=$MEMORY_MB: this machine has $memory"
}

# Slurm before 22.05 knows version 1 of cgroups only, which Ubuntu 22.04 has after a reboot with these words.
old_slurm_needs_old_cgroups() {
  dpkg --compare-versions "$(dpkg-query -W -f '${Version}' slurmd)" lt 22.05 || return 0
  [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]] || return 0
  # shellcheck disable=SC2016  # grub expands it
  put /etc/default/grub.d/60-ekiden-slurm.cfg 644 root <<< 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX systemd.unified_cgroup_hierarchy=0"'
  update-grub
  echo "this Slurm needs version 1 of cgroups: reboot, then run this script again"
  exit 3
}

write_limits() {
  local before=$CHANGES
  put /etc/systemd/system/slurmd.service.d/ekiden-slurm.conf 644 root << 'EOF'
[Service]
LimitNOFILE=1048576
LimitMEMLOCK=infinity
LimitSTACK=infinity
EOF
  put /etc/security/limits.d/60-ekiden-slurm.conf 644 root << 'EOF'
# ekiden: of logins; those of jobs are slurmd's
* soft nofile 65536
* hard nofile 1048576
* soft memlock unlimited
* hard memlock unlimited
EOF
  ! has_systemd || ((CHANGES == before)) || systemctl daemon-reload
}

start_slurmd() {
  # a container may forbid more than it has
  ulimit -n 1048576 2>/dev/null || ulimit -n "$(ulimit -Hn)"
  ulimit -l unlimited 2>/dev/null || ulimit -l "$(ulimit -Hl)"
  slurmd
}

main "$@"
