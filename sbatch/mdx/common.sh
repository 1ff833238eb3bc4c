# shellcheck shell=bash
# Sourced by controller.sh, node.sh, lustre.sh and uninstall.sh.
#
# What they do to a machine is on record in RECORD/installed, a line each, so that uninstall.sh can undo it.
# All of it is left alone where it is as it should be; CHANGES counts what was changed.
RECORD=/var/lib/ekiden-slurm
CHANGES=0
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
PATH=$PATH:/usr/sbin:/sbin
umask 022
# shellcheck source=../slurm/render.sh
source "$HERE/../slurm/render.sh"

die() { echo "$(basename "$0"): $*" >&2; exit 2; }
changed() { CHANGES=$((CHANGES + 1)); echo "$*"; }
has_systemd() { [[ -d /run/systemd/system ]]; }

check_machine() {
  ((EUID == 0)) || die "run as root: sudo $0"
  [[ -r /etc/os-release ]] || die "no /etc/os-release: this is neither Debian nor Ubuntu"
  case $(. /etc/os-release && echo "$ID-$VERSION_ID") in
    debian-12 | ubuntu-22.04 | ubuntu-24.04) ;;
    *) die "$(. /etc/os-release && echo "$PRETTY_NAME"): this is for Debian 12, Ubuntu 22.04 and Ubuntu 24.04" ;;
  esac
}

# read_site FILE: the variables of site.conf, checked, and those of the templates that follow from them
read_site() {
  local name word
  [[ -f ${1:-} ]] || die "name your copy of site.conf: $0 site.conf"
  # shellcheck source=site.conf
  source "$1"
  for name in CLUSTER CONTROLLER NODES CPUS MEMORY_MB GPUS GPU_TYPE CPU_CPUS MAX_TIME GRACE KILLWAIT; do
    [[ -n ${!name:-} ]] || die "$1: $name is missing"
  done
  for name in CPUS MEMORY_MB GPUS CPU_CPUS GRACE KILLWAIT; do
    [[ ${!name} =~ ^[0-9]+$ ]] || die "$1: $name=${!name}: write a whole number"
  done
  for word in $CONTROLLER $NODES; do
    [[ $word =~ ^[a-z][a-z0-9-]*=[0-9.]+$ ]] || die "$1: $word: write NAME=ADDRESS, such as mdx1=10.0.0.11"
  done
  ((CPU_CPUS <= CPUS)) || die "$1: CPU_CPUS=$CPU_CPUS: a node has CPUS=$CPUS"
  template_variables
}

# shellcheck disable=SC2034  # of the templates
template_variables() {
  local word
  ONE_MACHINE='' CONFINED=yes PROCTRACK=cgroup ACCOUNTING=slurmdbd TRES=gres/gpu SLURMD_TIMEOUT=300 PREEMPT=partition_prio
  HOST=${CONTROLLER%=*} HOST_ADDRESS=${CONTROLLER#*=}
  CRED_EXPIRE=$((KILLWAIT + 10)) DEF_MEMORY=$((MEMORY_MB / CPUS)) NODE_NAMES='' NODE_LINES=''
  GPU_FILES="/dev/nvidia[0-$((GPUS - 1))]"
  ((GPUS > 1)) || GPU_FILES=/dev/nvidia0
  for word in $NODES; do
    NODE_NAMES+=${NODE_NAMES:+,}${word%=*}
    NODE_LINES+=${NODE_LINES:+$'\n'}"NodeName=${word%=*} NodeAddr=${word#*=} CPUs=$CPUS RealMemory=$MEMORY_MB"
    NODE_LINES+=" Gres=gpu:$GPU_TYPE:$GPUS"
  done
}

recorded() { grep -qxF "$*" "$RECORD/installed" 2>/dev/null; }

record() {
  recorded "$*" && return
  install -d -m 755 "$RECORD"
  echo "$*" >> "$RECORD/installed"
}

# packages NAME...: install what is missing, and put on record what came with it
packages() {
  local missing=() name before
  for name; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  before=$(installed_packages)
  install -d -m 755 "$RECORD"
  # Not started by the package: they have no configuration yet.
  policy_rc_d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  apt-get -qq update 2> "$RECORD/apt.log" || true  # an old list may do
  apt-get -qq install --no-install-recommends "${missing[@]}" >> "$RECORD/apt.log" 2>&1 ||
    { tail -n 5 "$RECORD/apt.log" >&2; die "apt-get install ${missing[*]} failed; see $RECORD/apt.log"; }
  rm -f /usr/sbin/policy-rc.d
  trap - EXIT
  for name in $(comm -13 <(echo "$before") <(installed_packages)); do record package "$name"; done
  changed "packages: ${missing[*]}"
}

installed_packages() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort; }

policy_rc_d() {
  [[ ! -e /usr/sbin/policy-rc.d ]] || die "/usr/sbin/policy-rc.d exists; remove it first"
  printf '#!/bin/sh\nexit 101\n' | install -m 755 /dev/stdin /usr/sbin/policy-rc.d
}

# put FILE MODE OWNER < CONTENT: write a file unless it is there already; another's file is never replaced. Not at the end
# of a pipe, where CHANGES would be lost.
put() {
  local new
  new=$(mktemp)
  cat > "$new"
  if [[ -e $1 ]] && ! recorded "file $1"; then
    rm -f "$new"
    die "$1 exists, and is not of these scripts: move it away first"
  fi
  if cmp -s "$new" "$1" && [[ $(stat -c '%a %U' "$1") == "$2 $3" ]]; then
    rm -f "$new"
    return
  fi
  record file "$1"
  install -D -m "$2" -o "$3" "$new" "$1"
  rm -f "$new"
  changed "written: $1"
}

# put_template NAME MODE OWNER: write a file of /etc/slurm
put_template() {
  local text
  text=$(render "$1") || die "$1 is not written"
  put "/etc/slurm/$1" "$2" "$3" <<< "$text"
}

# folder PATH MODE OWNER
folder() {
  [[ -d $1 && $(stat -c '%a %U' "$1") == "$2 $3" ]] && return
  [[ -d $1 ]] || record folder "$1"
  install -d -m "$2" -o "$3" "$1"
  changed "folder: $1"
}

# The files that all machines have alike.
write_configuration() {
  put_template slurm.conf 644 root
  put_template cgroup.conf 644 root
  put_template gres.conf 644 root
  put /etc/slurm/clear-gpus.sh 755 root < "$HERE/clear-gpus.sh"
  folder /var/log/slurm 755 slurm
  write_hosts
}

# The host names of the cluster: a block of its own in /etc/hosts.
write_hosts() {
  local word new
  new=$(without_hosts; echo "# ekiden-slurm: begin"
    for word in $CONTROLLER $NODES; do echo "${word#*=} ${word%=*}"; done | sort -u
    echo "# ekiden-slurm: end")
  [[ $new != "$(cat /etc/hosts)" ]] || return 0
  record hosts
  echo "$new" > /etc/hosts  # in place: it may be a mount
  changed "written: /etc/hosts"
}

without_hosts() { sed '/^# ekiden-slurm: begin$/,/^# ekiden-slurm: end$/d' /etc/hosts; }

# process_of UNIT: the name of its process
process_of() { case $1 in munge) echo munged ;; mariadb) echo mariadbd ;; *) echo "$1" ;; esac; }

# running UNIT: is it alive, and no zombie?
running() {
  local pid
  for pid in $(pidof -c "$(process_of "$1")"); do
    ! grep -qE '^State:\s[^Z]' "/proc/$pid/status" 2>/dev/null || return 0
  done
  return 1
}

# daemon UNIT RESTART COMMAND...: have it running, anew if RESTART is not 0. Under systemd the unit is enabled and started;
# where systemd is not the first process, as in a container, the command starts it.
daemon() {
  local unit=$1 restart=$2
  shift 2
  if has_systemd; then
    systemctl --quiet is-enabled "$unit" 2>/dev/null || { systemctl --quiet enable "$unit"; changed "enabled: $unit"; }
    if ! systemctl --quiet is-active "$unit"; then
      systemctl start "$unit"
      changed "started: $unit"
    elif ((restart)); then
      systemctl restart "$unit"
    fi
    return
  fi
  ((!restart)) || stop "$unit"
  running "$unit" || { "$@"; changed "started: $unit"; }
}

# stop UNIT: end it, if it runs
stop() {
  local i
  if has_systemd; then
    systemctl --quiet stop "$1" 2>/dev/null || true
    return
  fi
  for ((i = 0; i < 300; i++)); do
    running "$1" || return 0
    # shellcheck disable=SC2046  # several are several words
    ((i)) || kill $(pidof -c "$(process_of "$1")")
    sleep 0.1
  done
  die "$1 does not end in 30 s; see its log"
}

# wait_for WHAT COMMAND...: until it succeeds, for a minute
wait_for() {
  local what=$1 end=$((SECONDS + 60)) out
  shift
  while ((SECONDS < end)); do
    out=$("$@" 2>&1) && return
    sleep 0.5
  done
  printf '%s\n' "$out" >&2
  die "$what did not come up in a minute; see /var/log/slurm, or journalctl"
}

start_munge() {
  has_systemd || install -d -o munge -m 755 /run/munge
  daemon munge "$1" runuser -u munge -- munged 2> /dev/null
  wait_for munge munge --no-input
}

finish() {
  if ((CHANGES)); then echo "$1: done"; else echo "$1: nothing to change"; fi
}
