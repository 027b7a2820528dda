# Ends a program whose wrapper has vanished. Usage: sh guard.sh GRACE_S <pipe held by the wrapper
#
# The guard leads the process group in which the program runs, so the group exists before the
# program does, and a killed wrapper never leaves a program behind. Reading returns when the wrapper
# is gone, however it died. Then the whole group gets SIGTERM, and SIGKILL GRACE_S seconds later.
# The signals that the wrapper sends to the group are not meant for the guard.
trap '' HUP INT QUIT TERM USR1 USR2 XCPU TSTP TTIN TTOU
read -r _
kill -TERM 0
sleep "$1"
kill -KILL 0
