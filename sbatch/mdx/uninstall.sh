#!/bin/bash
# Take this machine out of the Slurm of controller.sh and node.sh: end the daemons, and remove what those scripts installed
# and wrote, with the queue and the accounting. Packages and files that were there before stay.
#
#   sudo ./uninstall.sh [--with-jobs]      --with-jobs: also while jobs of this machine run, which end
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

main() {
  check_machine
  if [[ ! -s $RECORD/installed ]]; then
    rm -rf "$RECORD"
    echo "nothing to remove"
    return
  fi
  [[ ${1:-} == --with-jobs ]] || refuse_jobs
  end_daemons
  drop_database
  remove_files
  purge_packages
  rm -rf "$RECORD"
  echo "removed"
}

refuse_jobs() {
  ! running slurmd || [[ -z $(slurm_steps) ]] ||
    die "jobs are running here; drain the node first, or add --with-jobs: scontrol update nodename=$(hostname -s) state=drain reason=removed"
}

slurm_steps() { pidof -c slurmstepd || true; }

end_daemons() {
  local unit
  end_jobs
  for unit in slurmd slurmctld slurmdbd; do stop "$unit"; done
  rm -f /run/slurm{d,dbd,ctld}.pid  # else the package asks a controller that is gone to cancel jobs
}

# Through the controller, so that they can save; what is left, for example without a controller, is killed.
end_jobs() {
  local i pid
  [[ -n $(slurm_steps) ]] || return 0
  timeout 20 scancel --nodelist="$(hostname -s)" || true
  for ((i = 0; i < 120; i++)); do
    [[ -n $(slurm_steps) ]] || return 0
    sleep 1
  done
  for pid in /proc/[0-9]*; do
    ! grep -qE '/job_[0-9]+' "$pid/cgroup" 2>/dev/null || [[ $(cat "$pid/comm") == slurmstepd ]] || kill -KILL "${pid#/proc/}"
  done
  wait_for "the end of all jobs" bash -c '! pidof -c slurmstepd'
}

drop_database() {
  recorded database || return 0
  ours mariadb-server || mariadb -e "DROP DATABASE IF EXISTS slurm_acct_db; DROP USER IF EXISTS slurm@localhost"
}

ours() { recorded package "$1"; }

remove_files() {
  local kind path text
  while read -r kind path; do
    case $kind in
      file) rm -f "$path" ;;
      hosts) text=$(without_hosts) && echo "$text" > /etc/hosts ;;
      fstab) sed -i -E 's/^(172\.17\.8\.)/#\1/' /etc/fstab ;;  # comments again
    esac
  done < "$RECORD/installed"
  while read -r kind path; do
    [[ $kind != folder ]] || rm -rf "$path"
  done < "$RECORD/installed"
  rmdir --ignore-fail-on-non-empty /etc/systemd/system/slurmd.service.d 2>/dev/null || true
  ! has_systemd || systemctl daemon-reload
}

purge_packages() {
  local names
  mapfile -t names < <(sed -n 's/^package //p' "$RECORD/installed")
  ((${#names[@]})) || return 0
  ! ours mariadb-server || stop mariadb
  ! ours munge || stop munge
  apt-get -qq purge "${names[@]}" > "$RECORD/apt.log" 2>&1 || { tail -n 5 "$RECORD/apt.log" >&2; die "apt-get purge failed"; }
  ! ours mariadb-server || rm -rf /var/lib/mysql /var/log/mysql /etc/mysql /run/mysqld
  ! ours munge || rm -rf /etc/munge /var/lib/munge /var/log/munge /run/munge
  ! ours slurm-client || rm -rf /etc/slurm /var/lib/slurm /var/log/slurm /run/slurm*
}

main "$@"
