#!/bin/bash
# Make this machine the controller of a Slurm: munge, MariaDB and slurmdbd (accounting), slurmctld (the queue).
#
#   sudo ./controller.sh site.conf
#
# Running it again changes only what differs. After a change of site.conf run it, then node.sh on every node.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

main() {
  local before changes
  check_machine
  read_site "${1:-}"
  [[ $(hostname -s) == "$HOST" ]] || die "this is $(hostname -s), and the controller of $1 is $HOST"
  packages munge slurmctld slurmdbd slurm-client mariadb-server
  start_munge 0
  before=$CHANGES
  write_configuration
  folder /var/lib/slurm/slurmctld 755 slurm
  changes=$((CHANGES - before))
  start_accounting
  daemon slurmctld "$changes" slurmctld  # running jobs are not touched
  wait_for slurmctld scontrol ping
  finish "controller $HOST"
  echo "node.sh needs a copy of /etc/munge/munge.key, which root alone may read"
}

start_accounting() {
  local before=$CHANGES sql=(mariadb --batch --skip-column-names)
  put /etc/mysql/mariadb.conf.d/60-ekiden-slurm.cnf 644 root << 'EOF'
# slurmdbd asks for these; the database listens on loopback alone.
[mariadbd]
bind-address = 127.0.0.1
innodb_buffer_pool_size = 512M
innodb_lock_wait_timeout = 900
EOF
  daemon mariadb $((CHANGES - before)) start_mariadb
  wait_for mariadb "${sql[@]}" -e 'SELECT 1'
  if [[ -z $("${sql[@]}" -e "SELECT 1 FROM mysql.global_priv WHERE user = 'slurm'") ]]; then
    record database
    "${sql[@]}" -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db; CREATE USER slurm@localhost IDENTIFIED VIA unix_socket;
      GRANT ALL ON slurm_acct_db.* TO slurm@localhost"
    changed "database: slurm_acct_db"
  fi
  before=$CHANGES
  put_template slurmdbd.conf 600 slurm
  daemon slurmdbd $((CHANGES - before)) slurmdbd
  wait_for slurmdbd sacctmgr --noheader show cluster
  if [[ -z $(sacctmgr --noheader show cluster "$CLUSTER") ]]; then
    sacctmgr --immediate add cluster "$CLUSTER" > /dev/null
    changed "accounting: cluster $CLUSTER"
  fi
}

start_mariadb() {
  install -d -o mysql -m 755 /run/mysqld
  setsid mariadbd --user=mysql < /dev/null > /dev/null 2>&1 &
}

main "$@"
