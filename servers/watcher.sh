# Outlives the process that started the servers, by a moment.
#
# Standard input is a pipe whose other end only that process holds. It says "+ PID" for each server it starts and "- PID"
# for each that ended. The pipe closes when that process ends, even by kill -9: then end what is left, remove the folder.
# $1 is the folder.
pids=
while read -r sign pid; do
  rest=
  for p in $pids; do
    [ "$p" = "$pid" ] || rest="$rest $p"
  done
  pids=$rest
  [ "$sign" != + ] || pids="$pids $pid"
done

# Ask first: a Postgres that is killed outright leaves a shared memory segment behind. QUIT means "at once" to all three.
[ -z "$pids" ] || kill -QUIT $pids 2>/dev/null
for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  left=
  for p in $pids; do
    # A zombie has ended, whether or not somebody has collected it.
    case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$p/status" 2>/dev/null) in
      '' | Z) ;;
      *) left="$left $p" ;;
    esac
  done
  [ -n "$left" ] || break
  sleep 0.1
done

# Each server leads a process group, but Postgres's children leave it, so they are looked up while their parent lives.
for p in $left; do
  kill -KILL "-$p" $(cat /proc/"$p"/task/*/children 2>/dev/null) 2>/dev/null
done
for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  rm -rf -- "$1" 2>/dev/null && exit 0 # fails while a dying server still writes there
  sleep 0.1
done
exit 1
