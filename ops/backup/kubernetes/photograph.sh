# One pod's part of a member's photograph (photographs.py), run in the pod by the API server's exec:
#
#   sh -c TEXT-OF-THIS cbmdhi-photograph FOLDER SECONDS LINKED
#
# FOLDER is where the volume is mounted. Files whose path LINKED (a regular expression) matches keep the bytes that they
# have: they are linked, the others copied. It says a word, and waits for the next one on stdin:
#
#   ready              freeze   the programs stand still, and their files are linked and copied within the volume
#   still              all      those of the other pods stand still too: all is of one instant
#   done NANOSECONDS   send     the programs go on
#   a line TYPE MODE SIZE NAME for each folder and file, an empty line; then the bytes of the files, one after the other
#
# Whatever goes wrong, the programs go on: when stdin ends, when another word is heard, when this is ended, and after
# SECONDS by a guard.
set -eu
export LC_ALL=C
umask 077
folder=$1 longest=$2 linked=$3
photo=$folder/.cbmdhi-photograph

fail() {
  echo "$1" >&2
  exit 1
}

heard() {
  read -r word && [ "$word" = "$1" ]
}

session_of() {
  read -r line 2>/dev/null <"/proc/$1/stat" || return 1
  set -- ${line##*) }
  session=$4
}

# The processes that see this container's files, but for those of this session.
programs() {
  for each in /proc/[0-9]*; do
    if [ "$each/root" -ef / ] && session_of "${each#/proc/}" && [ "$session" != "$ours" ]; then
      printf '%s ' "${each#/proc/}"
    fi
  done
}

check() {
  # The first process of a process namespace cannot be stopped from within: it must be the pod's own, not the program.
  if [ /proc/1/root -ef / ] || ! [ -d /proc/1/root ]; then
    fail "the pod does not share its process namespace"
  fi
  for each in $(programs); do
    if grep -qs cbmdhi-photograph "/proc/$each/cmdline"; then
      fail "another backup is at work here"
    fi
  done
}

# Does every thread stand still? One in the middle of a write does when that is done.
still() {
  for each; do
    for thread in "/proc/$each/task"/*/stat; do
      read -r line 2>/dev/null <"$thread" || continue
      case ${line##*) } in [TtXZ]*) ;; *) return 1 ;; esac
    done
  done
}

freeze() {
  frozen=
  attempts=0
  while running=$(programs) && [ "$running" != "$frozen" ]; do
    kill -STOP $running
    until still $running; do
      attempts=$((attempts + 1))
      [ "$attempts" -lt 3000 ] || fail "a program does not stand still: it waits for the disk"
      sleep 0.001
    done
    frozen=$running
  done
  [ -n "$frozen" ] || fail "no program runs here"
}

thaw() {
  for each in $(programs); do
    kill -CONT "$each" 2>/dev/null || :
  done
}

leave() {
  trap '' HUP INT TERM PIPE
  thaw
  rm -rf "$photo"
  kill -KILL $guard $watch 2>/dev/null || :
}

# In one walk, but for what the arguments say. Folders are in the list: there is no need of copies of them.
copy() {
  find . -mindepth 1 -regextype posix-extended \( "$@" \) -prune -o \
    \( -type d -o -type f \) -fprintf "$photo/list" '%y %m %s %P\n' -type f \( \
    -regex "$linked" -exec cp --link --parents -t "$photo/files" -- {} + -o \
    ! -regex "$linked" -exec cp --parents -t "$photo/files" -- {} + \)
}

send() {
  # When whoever listened is gone, nothing reads on, and the writing below would wait for ever.
  exec 3<&0
  (
    trap '' TERM
    read -r _ <&3 || :
    # Once would not do: a command that begins just then has not heard it, and is waited for.
    while kill -0 $$; do
      kill 0
      sleep 0.1
    done
  ) >/dev/null 2>&1 &
  watch=$!
  cat "$photo/list"
  echo
  cd "$photo/files"
  while read -r type _ size name; do
    if [ "$type" = f ]; then
      head -c "$size" -- "$name"
    fi
  done <"$photo/list"
}

take() {
  session_of $$
  ours=$session
  check
  guard= watch=
  trap leave EXIT
  trap 'exit 1' HUP INT TERM PIPE
  rm -rf "$photo"
  mkdir -p "$photo/files"
  cd "$folder"
  # Neither what backups and restores left, nor what is mounted over the volume: Secrets.
  set -- -path './.cbmdhi-*' -o -path ./lost+found
  while read -r _ _ _ _ where _; do
    case $where in "$folder"/*) set -- "$@" -o -path ".${where#"$folder"}" ;; esac
  done </proc/self/mountinfo
  # So that folders and programs are in memory when every millisecond counts.
  find . -name .cbmdhi-nothing -exec cp {} + >/dev/null 2>&1 || :
  cp --version >/dev/null
  echo ready
  heard freeze
  (
    sleep "$longest"
    thaw
  ) </dev/null >/dev/null 2>&1 &
  guard=$!
  begun=$(date +%s%N)
  freeze
  echo still
  copy "$@"
  heard all
  if ! [ "$(programs)" = "$frozen" ] || ! still $frozen; then
    fail "a program was started or ended meanwhile, or copying took longer than the $longest s that it may stand still"
  fi
  thaw
  echo "done $(($(date +%s%N) - begun))"
  heard send
  send
}

take
