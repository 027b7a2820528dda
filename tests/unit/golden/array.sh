#!/bin/bash
#SBATCH --ntasks=1
#SBATCH --comment='a b'
# 2 jobs of one shape, written by zwrap for tok-array.

task() {
  exec >>"$2" 2>>"$3" || exit 111
  exec /bin/bash -l "$1"/script
}
case "$TASK" in
1) task '/data/it'"'"'s here/a' '/data/it'"'"'s here/a/out' '/data/it'"'"'s here/a/err' ;;
2) task '/data/it'"'"'s here/b' '/data/it'"'"'s here/b/out' '/data/it'"'"'s here/b/err' ;;
esac
echo "zwrap: "tok-array" has no task $TASK" >&2
exit 100
