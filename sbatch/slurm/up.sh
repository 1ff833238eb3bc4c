#!/bin/bash
# Bring up a real Slurm on this one machine, to try jobs, preemption and requeues on: two nodes (mdx1, mdx2) of eight fake
# GPUs, a partition "low" whose jobs the partition "high" preempts and requeues ("hasty": the same without any grace), and
# accounting. It lives in one directory, listens on loopback, and needs root but no systemd. Running it again starts what
# is missing; down.sh stops it.
#
#   sbatch/slurm/up.sh && source /tmp/ekiden-slurm/env.sh && sinfo
#
# Environment variables (after changing one: down.sh, then up.sh):
#   EKIDEN_SLURM_ROOT         the directory (${TMPDIR:-/tmp}/ekiden-slurm); short, as sockets in it have 107 characters at most
#   EKIDEN_SLURM_NODES        number of nodes (2)
#   EKIDEN_SLURM_GPUS         GPUs a node (8)
#   EKIDEN_SLURM_CPUS         CPUs a node declares (16)
#   EKIDEN_SLURM_DBD          1: MariaDB and slurmdbd; 0: no accounting, and env.sh puts a stand-in for sacct on PATH (1)
#   EKIDEN_SLURM_PORT         first port of PORT..PORT+10+NODES (16800); a second cluster wants its own, and its own ROOT
#   EKIDEN_SLURM_GRACE        seconds from a preemption's SIGTERM to the end of the job (30)
#   EKIDEN_SLURM_KILLWAIT     seconds from the SIGTERM that ends a job to SIGKILL (30)
#   EKIDEN_SLURM_CRED_EXPIRE  seconds from a job's end to its next start after a requeue (KILLWAIT + 5); at least 5
#   EKIDEN_SLURM_PREEMPT      who preempts: partition_prio, or qos with the QOSes that you add (partition_prio)
#   EKIDEN_SLURM_MEMORY       1: a job is killed beyond its memory; needs the memory cgroup, version 1 (0)
#   EKIDEN_SLURM_CTLD_PARAMS  further SlurmctldParameters, such as preempt_send_user_signal
# shellcheck disable=SC2034  # the templates use them
set -euo pipefail
ROOT=${EKIDEN_SLURM_ROOT:-${TMPDIR:-/tmp}/ekiden-slurm}
NODES=${EKIDEN_SLURM_NODES:-2} GPUS=${EKIDEN_SLURM_GPUS:-8} CPUS=${EKIDEN_SLURM_CPUS:-16}
DBD=${EKIDEN_SLURM_DBD:-1} PORT=${EKIDEN_SLURM_PORT:-16800}
GRACE=${EKIDEN_SLURM_GRACE:-30} KILLWAIT=${EKIDEN_SLURM_KILLWAIT:-30}
CRED_EXPIRE=${EKIDEN_SLURM_CRED_EXPIRE:-$((KILLWAIT + 5))} CTLD_PARAMS=${EKIDEN_SLURM_CTLD_PARAMS:-}
PREEMPT=${EKIDEN_SLURM_PREEMPT:-partition_prio} MEMORY=${EKIDEN_SLURM_MEMORY:-0}
HERE=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
source "$HERE/render.sh"
export SLURM_CONF=$ROOT/etc/slurm.conf

main() {
  check_machine
  umask 022
  mkdir -p "$ROOT"/{bin,db,dev,etc,log,munge,pid,spool,state}
  chmod 755 "$ROOT"  # the database runs as mysql, jobs as their users
  make_gpus
  write_configuration
  start_munge
  ((DBD)) && start_accounting
  start_slurm
  sinfo
  echo "export SLURM_CONF=$SLURM_CONF"
}

check_machine() {
  local need=(slurmctld:slurmctld slurmd:slurmd sinfo:slurm-client munged:munge) pair missing=()
  ((DBD)) && need+=(slurmdbd:slurmdbd mariadbd:mariadb-server)
  for pair in "${need[@]}"; do command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}"); done
  ((${#missing[@]} == 0)) || die "missing packages: apt-get install -y --no-install-recommends ${missing[*]}"
  ((CRED_EXPIRE >= 5)) || die "EKIDEN_SLURM_CRED_EXPIRE is $CRED_EXPIRE: at least 5, as Slurm takes 120 for anything less"
  ((EUID == 0)) || die "run as root: slurmd starts jobs for their users and munge wants its key owned by its user"
  if ! running slurmctld && (: < "/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then
    die "port $PORT is in use: set EKIDEN_SLURM_PORT to the first of $((NODES + 11)) free ports"
  fi
}

make_gpus() {
  local g
  GPU_FILES="$ROOT/dev/nvidia[0-$((GPUS - 1))]"
  for ((g = 0; g < GPUS; g++)); do
    # 195 is NVIDIA's major number; where a container forbids mknod, terminals are character devices too
    [[ -c $ROOT/dev/nvidia$g ]] || mknod "$ROOT/dev/nvidia$g" c 195 "$g" 2>/dev/null ||
      { GPU_FILES="/dev/tty[0-$((GPUS - 1))]"; return; }
  done
}

write_configuration() {
  local name accounting=none tres=cpu proctrack=linuxproc probe=/sys/fs/cgroup/freezer/ekiden-probe-$$
  local tasks=none constrain_memory=no
  if ((DBD)); then accounting=slurmdbd tres=gres/gpu; fi
  if ((MEMORY)); then tasks=cgroup constrain_memory=yes; fi
  mkdir "$probe" 2>/dev/null && rmdir "$probe" && proctrack=cgroup
  local CLUSTER=ekiden HOST HOST_ADDRESS=127.0.0.1 ONE_MACHINE=yes CONFINED='' FIRST_JOB=$((PORT * 100)) \
    DBD_PORT=$((PORT + 1)) DB_PORT=$((PORT + 2)) ACCOUNTING=$accounting TRES=$tres PROCTRACK=$proctrack SLURMD_TIMEOUT=20 \
    TASKS=$tasks CONSTRAIN_MEMORY=$constrain_memory \
    CTLD_PARAMS=${CTLD_PARAMS:+,$CTLD_PARAMS} NODE_NAMES="mdx[1-$NODES]" NODE_LINES GPU_TYPE=a100
  HOST=$(hostname -s)
  NODE_LINES="NodeName=$NODE_NAMES NodeHostname=$NODE_NAMES NodeAddr=127.0.0.1 Port=[$((PORT + 11))-$((PORT + 10 + NODES))]"
  NODE_LINES+=" CPUs=$CPUS Sockets=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=500000 Gres=gpu:$GPU_TYPE:$GPUS"
  for name in slurm.conf gres.conf slurmdbd.conf cgroup.conf; do
    render "$name" | install -m 600 /dev/stdin "$ROOT/etc/$name"
  done
  chmod 644 "$ROOT"/etc/{slurm,gres,cgroup}.conf
  : > "$ROOT/etc/plugstack.conf"  # else Slurm reads /etc/slurm/plugstack.conf
  { cat /etc/hosts; for ((name = 1; name <= NODES; name++)); do echo "127.0.0.1 mdx$name"; done; } > "$ROOT/etc/hosts"
  echo "export SLURM_CONF=$SLURM_CONF" > "$ROOT/env.sh"
  if ((!DBD)); then
    install -m 755 "$HERE/templates/sacct" "$ROOT/bin/sacct"
    echo "export PATH=$ROOT/bin:\$PATH" >> "$ROOT/env.sh"
  fi
}

start_munge() {
  running munged && return
  [[ -s $ROOT/munge/key ]] || (umask 077 && head -c 1024 /dev/urandom > "$ROOT/munge/key")
  rm -f "$ROOT"/munge/socket*
  chmod 711 "$ROOT/munge"  # munged wants it closed to writers and open to those who pass through to the socket
  munged --key-file="$ROOT/munge/key" --socket="$ROOT/munge/socket" --seed-file="$ROOT/munge/seed" \
    --pid-file="$ROOT/pid/munged.pid" --log-file="$ROOT/log/munged.log"
  wait_for munged munge --socket="$ROOT/munge/socket" --no-input
}

start_accounting() {
  local sql=(mariadb --no-defaults --socket="$ROOT/db/socket")
  if ! running mariadbd; then
    install -d -o mysql -m 755 "$ROOT/db"
    install -o mysql -m 644 /dev/null "$ROOT/log/mariadbd.log"
    # tmpdir: a MariaDB that starts removes the temporary tables it finds, another server's in /tmp too
    [[ -d $ROOT/db/data/mysql ]] || mariadb-install-db --no-defaults --user=mysql \
      --datadir="$ROOT/db/data" --tmpdir="$ROOT/db" --skip-test-db --auth-root-authentication-method=socket \
      > "$ROOT/log/mariadb-install.log" 2>&1 ||
      die "$(tail -n 5 "$ROOT/log/mariadb-install.log")"
    # slurmdbd wants a long lock wait; these records are few, and may be lost in a crash
    setsid mariadbd --no-defaults --user=mysql --datadir="$ROOT/db/data" --tmpdir="$ROOT/db" \
      --socket="$ROOT/db/socket" --pid-file="$ROOT/db/pid" --bind-address=127.0.0.1 --port=$((PORT + 2)) --skip-name-resolve \
      --log-error="$ROOT/log/mariadbd.log" --innodb-lock-wait-timeout=900 --innodb-buffer-pool-size=64M --innodb-log-file-size=32M \
      --innodb-flush-log-at-trx-commit=0 < /dev/null > /dev/null 2>&1 &
    echo $! > "$ROOT/pid/mariadbd.pid"
    wait_for mariadbd "${sql[@]}" -e 'SELECT 1'
  fi
  "${sql[@]}" -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db; CREATE USER IF NOT EXISTS slurm@127.0.0.1 IDENTIFIED BY 'slurm';
    GRANT ALL ON slurm_acct_db.* TO slurm@127.0.0.1;"
  running slurmdbd || slurmdbd
  wait_for slurmdbd sacctmgr --noheader show cluster
  [[ -n $(sacctmgr --noheader show cluster ekiden) ]] || sacctmgr --immediate add cluster ekiden > /dev/null
}

start_slurm() {
  local n
  if running slurmctld; then
    scontrol reconfigure
  else
    slurmctld
    wait_for slurmctld scontrol ping
  fi
  for ((n = 1; n <= NODES; n++)); do
    running slurmd "slurmd.mdx$n" || start_node "mdx$n"
  done
  export -f nodes_up; export NODES
  wait_for nodes bash -c nodes_up
}

# Each slurmd has a host name and an /etc/hosts of its own where the machine allows it: in a job `hostname` says mdx1, and
# mdx1 resolves, as torch's MASTER_ADDR must.
start_node() {
  mkdir -p "$ROOT/spool/$1"
  # shellcheck disable=SC2016  # the inner shell expands it
  local own=(unshare --uts --mount --propagation private bash -c
    'hostname "$1" && mount --bind "$2" /etc/hosts && exec "${@:3}"' _ "$1" "$ROOT/etc/hosts")
  if "${own[@]}" true 2>/dev/null; then
    "${own[@]}" slurmd -N "$1"
  else
    slurmd -N "$1"
  fi
}

nodes_up() {
  local states
  states=$(sinfo --noheader --Node --partition=low --format=%T)
  echo "node states: $states"
  [[ $(grep -cE '^(idle|mixed|allocated|completing)$' <<< "$states") == "$NODES" ]]
}

# running NAME [PIDFILE]: is this cluster's daemon alive? A daemon that died can stay a zombie for seconds, and a pid can
# come back as somebody else's: it is ours when it has the name, is no zombie and holds a file of ROOT open.
running() {
  local pid
  pid=$(cat "$ROOT/pid/${2:-$1}.pid" 2>/dev/null) || return 1
  grep -qE '^State:\s[^Z]' "/proc/$pid/status" 2>/dev/null || return 1
  [[ $(cat "/proc/$pid/comm") == "$1" && $(readlink "/proc/$pid/fd/"*) == *"$ROOT/"* ]]
}

# wait_for NAME COMMAND...: until COMMAND succeeds; after 60 s show its last output
wait_for() {
  local name=$1 end=$((SECONDS + 60)) out=
  shift
  while ((SECONDS < end)); do
    out=$(timeout 10 "$@" 2>&1) && return
    sleep 0.1
  done
  printf '%s\n' "$out" >&2
  die "$name did not come up in 60 s; see $ROOT/log"
}

die() { echo "up.sh: $*" >&2; exit 2; }

main
