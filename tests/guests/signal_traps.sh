# A shell with traps: signals that it sends itself, that interrupt its wait, and that its children inherit.
#@ run: bash $SRC
#@ modes: plain summary trace
count=0
trap 'count=$((count + 1))' USR1
for at in $(seq 500); do kill -USR1 $$; done
echo "$count traps"
trap 'echo interrupted' USR2
sleep 100 &
sleeper=$!
(state=R; until [ "$state" = S ]; do read -r _ _ state _ < /proc/$$/stat; done; kill -USR2 $$) &
helper=$!
wait "$sleeper"
echo "wait: $?"
kill "$sleeper"
wait "$sleeper" 2>/dev/null
echo "then: $?"
wait "$helper"
trap '' TERM
bash -c 'kill -TERM $$; echo still here'
trap - TERM
bash -c 'kill -TERM $$; echo not here' 2>/dev/null
echo "ended: $?"
(trap 'echo out; exit 3' EXIT; kill -INT $BASHPID; echo on) ; echo "subshell: $?"
trap 'echo end' EXIT
seq 100000 | head -1
echo "pipe: ${PIPESTATUS[*]}"
trap - EXIT
echo ok
