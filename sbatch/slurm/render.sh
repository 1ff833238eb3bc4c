# shellcheck shell=bash
# Sourced by up.sh and by the scripts of ../mdx: fills in the templates of a Slurm.
#
#   render slurm.conf > /etc/slurm/slurm.conf
#
# In a template @NAME@ stands for the variable NAME, and the lines from `#if NAME` to `#else` or `#end` are kept if NAME
# is not empty, those from `#else` to `#end` otherwise. A variable that is not set is an error.
TEMPLATES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/templates

render() {
  local line name keep=1
  while IFS= read -r line; do
    case $line in
      '#if '*) name=${line#'#if '}; is_set "$name" || return; if [[ -n ${!name} ]]; then keep=1; else keep=0; fi ;;
      '#else') keep=$((!keep)) ;;
      '#end') keep=1 ;;
      *) ((!keep)) || render_line "$line" || return ;;
    esac
  done < "$TEMPLATES/$1"
}

render_line() {
  local line=$1 name
  while [[ $line =~ @([A-Z_]+)@ ]]; do
    name=${BASH_REMATCH[1]}
    is_set "$name" || return
    line=${line//"@$name@"/"${!name}"}
  done
  printf '%s\n' "$line"
}

is_set() { [[ -v $1 ]] || { echo "render: $1 is not set" >&2; return 2; }; }
