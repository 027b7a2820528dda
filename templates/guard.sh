# Ends a program whose wrapper has vanished. Usage: sh guard.sh GRACE_S <pipe held by the wrapper
#
# It leads the process group in which the program runs, so the group exists before the program
# does and there is no moment at which a killed wrapper leaves a program behind. Reading returns
# when the wrapper is gone, however it died: then the whole group is asked, and after GRACE_S
# seconds made, to end. The signals that the wrapper sends to the group are not meant for it.
trap '' HUP INT QUIT TERM USR1 USR2 XCPU TSTP TTIN TTOU
read -r _
kill -TERM 0
sleep "$1"
kill -KILL 0
