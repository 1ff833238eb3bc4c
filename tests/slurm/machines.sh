#!/bin/bash
# In namespaces of its own: machines on a bridge, each a fresh Debian with a host name, a network and eight fake GPUs.
#
#   unshare --mount --ipc --pid --net --fork --kill-child --mount-proc machines.sh BASE FOLDER SBATCH NAME=ADDRESS...
#
# Prints `ready`; FOLDER/NAME.pid is the number of a process in the machine, here. All of it ends with this process.
set -euo pipefail
base=$1 folder=$2 scripts=$3
shift 3

main() {
  local machine
  mount --make-rprivate /
  mount -t tmpfs tmpfs "$folder"
  ip link set lo up
  ip link add bridge type bridge
  ip link set bridge up
  for machine; do
    make_root "$folder/${machine%=*}"
    connect "${machine%=*}" "${machine#*=}"
  done
  echo ready
  exec sleep infinity
}

make_root() {
  local root=$1/root node device
  mkdir -p "$1"/{up,work,root}
  mount -t overlay overlay -o "lowerdir=$base,upperdir=$1/up,workdir=$1/work" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
  mount -t tmpfs tmpfs "$root/dev"
  for device in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"; done
  for node in 0 1 2 3 4 5 6; do mknod -m 666 "$root/dev/nvidia$node" c 195 $node; done
  mknod -m 666 "$root/dev/nvidia7" c 1 7  # /dev/full, as nothing can hold a device open that has no driver
  mkdir "$root"/dev/{shm,pts}
  mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=666
  ln -s pts/ptmx "$root/dev/ptmx"
  for device in fd: stdin:/0 stdout:/1 stderr:/2; do ln -s "/proc/self/fd${device#*:}" "$root/dev/${device%:*}"; done
  mkdir -p "$root/opt/sbatch"
  mount --bind "$scripts" "$root/opt/sbatch"
}

connect() {
  # shellcheck disable=SC2016  # the inner shell expands it
  unshare --net --uts bash -c 'hostname "$1"; ip link set lo up; touch "$2"; exec sleep infinity' _ "$1" "$folder/$1.up" &
  echo $! > "$folder/$1.pid"
  until [[ -e $folder/$1.up ]]; do sleep 0.05; done
  ip link add "to-$1" type veth peer name eth0 netns $!
  ip link set "to-$1" master bridge up
  nsenter --target $! --net ip address add "$2/24" dev eth0
  nsenter --target $! --net ip link set eth0 up
}

main "$@"
