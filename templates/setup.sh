# Each line of the set-up has to succeed: one that fails ends the job here, before the wrapper.
# A file that is sourced counts as one line. What ends the shell by itself (`exit`, `${x:?}`, a
# syntax error) is told, too; then the line may be the last one that ran.
zwrap_setup_failed() {
  [ -n "${BASH_SOURCE[2]-}" ] && return
  trap - DEBUG
  zwrap_next=zwrap_setup_failed
  exit "$1"
}
zwrap_setup_ended() {
  trap - ERR DEBUG
  case $zwrap_next in zwrap_setup_*) ;; *) zwrap_line=$zwrap_next ;; esac
  [ "$1" = 0 ] || echo "zwrap: set-up failed with exit status $1: $zwrap_line" >&2
  (exit "$1")
  eval "${zwrap_exit[2]-}"
}
zwrap_setup_done() {
  case $(trap -p EXIT) in *zwrap_setup_ended*) ;; *) return 0 ;; esac
  trap - EXIT
  [ -z "${zwrap_exit-}" ] || "${zwrap_exit[@]}"
}
eval "zwrap_exit=($(trap -p EXIT))"
trap 'zwrap_setup_ended $?' EXIT
trap 'zwrap_line=${zwrap_next-} zwrap_next=$BASH_COMMAND' DEBUG
trap 'zwrap_setup_failed $?' ERR
