#!/bin/bash
# Mount the Lustre of mdx on a virtual machine of mdx, from what its Ubuntu images bring: a template of LNet's
# configuration, commented lines of /etc/fstab, and the service lustre_client.
#
#   sudo ./lustre.sh 172.17.0.11      the machine's address on storage network 1, as the portal of mdx shows it
#
# Running it again changes only what differs. It takes effect at the next boot.
set -euo pipefail
# shellcheck source=common.sh
source "$(dirname "$0")/common.sh"

main() {
  local address=${1:-} device
  check_machine
  [[ $address =~ ^[0-9]+(\.[0-9]+){3}$ ]] || die "name the machine's address on storage network 1: $0 172.17.0.11"
  [[ -f /etc/lnet.conf.ddn.j2 ]] || die "no /etc/lnet.conf.ddn.j2: this image has no Lustre of mdx; take one of mdx's own"
  device=$(ip -brief -4 address | awk -v own="$address" '{for (i = 3; i <= NF; i++) {split($i, a, "/"); if (a[1] == own) {sub(/@.*/, "", $1); print $1}}}')
  [[ -n $device ]] || die "$address is not an address of this machine; see: ip -brief address"
  write_lnet "$address" "$device"
  uncomment_mounts
  if ! has_systemd; then
    echo "systemd does not run here: start lustre_client by hand"
  elif ! systemctl --quiet is-enabled lustre_client; then
    systemctl --quiet enable lustre_client
    changed "enabled: lustre_client"
  fi
  finish lustre
  ((CHANGES == 0)) || echo "reboot to mount it"
}

write_lnet() {
  local word expressions=()
  for word in tcp_src_ipaddr ib_src_ipaddr; do expressions+=(-e "s/{{ *$word *}}/$1/g"); done
  for word in tcp_netif ib_netif; do expressions+=(-e "s/{{ *$word *}}/$2/g"); done
  put /etc/lnet.conf.ddn 644 root <<< "$(sed "${expressions[@]}" /etc/lnet.conf.ddn.j2)"
}

# The images bring the mounts as comments: #172.17.8.40@o2ib10:... /data lustre ...
uncomment_mounts() {
  local new
  new=$(sed -E 's/^#(172\.17\.8\.)/\1/' /etc/fstab)
  [[ $new != "$(cat /etc/fstab)" ]] || return 0
  record fstab
  echo "$new" > /etc/fstab
  changed "written: /etc/fstab"
}

main "$@"
