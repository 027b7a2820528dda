# Each line of the set-up has to succeed: one that fails ends the job here, before the wrapper.
# A file that is sourced counts as one line.
zwrap_setup_failed() {
  [ -n "${BASH_SOURCE[2]-}" ] && return
  echo "zwrap: set-up failed with exit status $1: $zwrap_line" >&2
  exit "$1"
}
trap 'zwrap_line=$zwrap_next zwrap_next=$BASH_COMMAND' DEBUG
trap 'zwrap_setup_failed $?' ERR
