#!/usr/bin/env bash
# Plays sessions to the steps through a real telnet, as a person would type them.
#
#   scripts/telnet-demo.sh                 the session hello, to every step
#   scripts/telnet-demo.sh 03              the conversations of its chapter
#   scripts/telnet-demo.sh --all 03        these, and whatever else it changes
#   scripts/telnet-demo.sh unknown_method  one session, to every step
#   scripts/telnet-demo.sh 03 headers      one session, to one step
#
#   --all     plays all sessions that a step changes; without a step, to every step
#   --pause   says what comes, and waits for Enter, before each session
#   --predict asks what will be answered, and waits for Enter, before each answer
#   --fast    types at once
#   --list    lists the sessions
#   --with telnet|nc|bash   plays with this, instead of the first of them that is there
#
# > is typed, < is answered, | is the server's log, ! is an answer that should be another.
# Needs bash 3.2 or later.

set -u
cd "$(dirname "$0")/.." || exit 1
readonly sessions=tests/sessions

# --- What to play ---------------------------------------------------------------------------

usage() {
  echo "$1" >&2
  echo "Usage: scripts/telnet-demo.sh [--all] [--pause] [--predict] [--fast] [--list]" \
    "[--with telnet|nc|bash] [STEP...] [SESSION...]" >&2
  exit 2
}

title() { sed -n '1s/^# *//p' "$sessions/$1.session"; }

# What to look at: the other lines of comment, in one.
about() { # SESSION
  awk 'NR > 1 && sub(/^# */, "") { printf "%s%s", gap, $0; gap = " " }' "$sessions/$1.session"
}

# Whether the session has a section of this step.
changes_at() { grep -q "^@ $1\$" "$sessions/$2.session"; }

# The sessions to play to a step: those that its chapter shows with it, in the same order. The
# others that it changes are played with --all, or when its chapter shows none.
sessions_of() { # STEP
  local shown file name
  shown=$(sed -n 's/^{{#session \([a-z0-9_]*\)}}.*/\1/p' "book/src/$1.md" 2>/dev/null)
  {
    [ -z "$shown" ] || echo "$shown"
    if [ -n "$all" ] || [ -z "$shown" ]; then
      for file in "$sessions"/*.session; do
        name=$(basename "$file" .session)
        if changes_at "$1" "$name"; then echo "$name"; fi
      done
    fi
  } | awk '!seen[$0]++'
}

list() {
  local file name
  for file in "$sessions"/*.session; do
    name=$(basename "$file" .session)
    printf '%-22s  %s\n' "$name" "$(title "$name")"
  done
}

all_steps=()
for folder in steps/*/; do all_steps+=("$(basename "$folder")"); done
steps=() names=() all='' pause='' predict='' fast='' with='' note=''
while [ $# -gt 0 ]; do
  case $1 in
    --all) all=1 ;;
    --pause) pause=1 ;;
    --predict) predict=1 ;;
    --fast) fast=1 ;;
    --list) list; exit ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' scripts/telnet-demo.sh; exit ;;
    --with)
      [ $# -gt 1 ] || usage "--with what? telnet, nc or bash"
      with=$2
      shift
      ;;
    -*) usage "There is no option $1." ;;
    [0-9]*)
      found=''
      for step in "${all_steps[@]}"; do
        case $step in "$1" | "$1"-*) found=$step ;; esac
      done
      [ -n "$found" ] || usage "There is no step $1, only: ${all_steps[*]}"
      steps+=("$found")
      ;;
    *)
      [ -f "$sessions/$1.session" ] || usage "There is no session $1: --list lists them."
      names+=("$1")
      ;;
  esac
  shift
done

if [ -n "$all" ] && [ ${#names[@]} -gt 0 ]; then
  usage "--all plays all sessions of a step: name steps with it, not sessions (${names[*]})."
fi

if [ -z "$with" ]; then
  for with in telnet nc bash; do command -v "$with" >/dev/null && break; done
  [ "$with" = telnet ] || note="there is no telnet here: $with plays instead"
fi
case $with in
  telnet | nc | bash) command -v "$with" >/dev/null || usage "There is no $with here." ;;
  *) usage "--with what? telnet, nc or bash, not $with" ;;
esac

# --- How it looks ---------------------------------------------------------------------------

# Of xterm's sixteen colours six have a contrast of 3 to 1 and more with white and with black:
# red, magenta, grey, bright red, bright blue, bright magenta. Answers have the terminal's own.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' blue=$'\e[1;94m' magenta=$'\e[35m' red=$'\e[1;31m' plain=$'\e[0m'
else
  bold='' blue='' magenta='' red='' plain=''
fi
width=80
[ ! -t 1 ] || width=$(tput cols 2>/dev/null || echo 80)
[ "$width" -ge 20 ] || width=80 # A terminal without a size says 0.

# Writes, as long as somebody reads.
put() { printf '%s' "$1" 2>/dev/null || exit 1; }

# Shows a text behind a mark, on as many lines as it takes. A word longer than a line is cut.
show() { # MARK COLOUR TEXT
  local mark=$1 colour=$2 text=${3//[[:cntrl:]]/?} room=$((width - ${#1} - 1)) part
  while :; do
    part=${text:0:room + 1}
    if [ ${#part} -le "$room" ]; then
      text=''
    else
      case $part in
        *[!\ ]*' '*)
          part=${part% *}
          text=${text:${#part} + 1}
          ;;
        *)
          part=${part:0:room - 3}...
          text=${text:room - 3}
          text=${text#"${text%%' '*}"}
          text=${text# }
          ;;
      esac
    fi
    put "$colour$mark${part:+ }$part$plain"$'\n'
    [ -n "$text" ] || break
    mark=${mark//?/ }
  done
}

nap() { [ -n "$fast" ] || sleep "$1"; }

# Shows a line as it is typed: letter by letter, if it is new in this session, and not too long.
show_typing() { # MARK TEXT
  local index again=''
  case $typed in *"<$2>"*) again=1 ;; esac
  typed+="<$2>"
  if [ -n "$fast$again" ] || [ ${#2} -gt $((width - ${#1} - 2)) ]; then
    show "$1" "$blue" "$2"
    return
  fi
  put "$blue$1${2:+ }"
  for ((index = 0; index < ${#2}; index++)); do
    put "${2:index:1}"
    sleep 0.04
  done
  put "$plain"$'\n'
}

# --- The server -----------------------------------------------------------------------------
# Descriptor 8 keeps it alive: when this script ends in any way, its other end reads the end of
# a file, and ends the server. Descriptor 7 reads its log.

temporary=$(mktemp -d) || exit 1
finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  [ "$status" -lt 128 ] || printf '%s\n' "$plain" 2>/dev/null
  exec 3>&- 4<&- 5>&- 6<&- 8>&-
  for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null; done
  wait 2>/dev/null
  rm -rf "$temporary"
  exit "$status"
}
trap finish EXIT
trap '' PIPE # A server that closes is part of the show.
trap 'exit 130' INT
trap 'exit 143' TERM HUP
pids=()

start_server() { # STEP ADDRESS; returns 1 when it does not listen
  local line
  rm -f "$temporary/hold" "$temporary/log"
  mkfifo "$temporary/hold" "$temporary/log"
  (
    NO_COLOR=1 "$target/debug/$1" "$2" 2>&1 &
    cat >/dev/null # until this script ends, or closes its descriptor 8
    kill $! 2>/dev/null
    wait
  ) <"$temporary/hold" >"$temporary/log" 2>/dev/null 7<&- 8>&- &
  exec 8>"$temporary/hold" 7<"$temporary/log"
  IFS= read -r -t 20 -u 7 line
  case $line in
    'Listening on http://127.0.0.1:'*) port=${line##*:} ;;
    *) stop_server; return 1 ;;
  esac
  show '|' "$magenta" "$line"
}

stop_server() {
  exec 8>&-
  wait 2>/dev/null
  exec 7<&-
}

# --- The clients ----------------------------------------------------------------------------
# The first one has the descriptors 3 and 4, the second one 5 and 6: to write, and to read.

clients=()
in=0 out=0 client=0

# Finds the client of this name, and connects it when it is new.
choose() { # NAME
  local line
  for ((client = 0; client < ${#clients[@]}; client++)); do
    [ "${clients[client]}" = "$1" ] && break
  done
  in=$((3 + 2 * client)) out=$((4 + 2 * client))
  [ "$client" -lt "${#clients[@]}" ] && return
  [ "$client" -lt 2 ] || usage "A session with more than two clients cannot be shown here."
  clients+=("$1") pids[client]=''
  if [ "$how" = bash ]; then
    # shellcheck disable=SC1083
    eval "exec $in<>/dev/tcp/127.0.0.1/$port $out<&$in"
    return
  fi
  rm -f "$temporary/in" "$temporary/out"
  mkfifo "$temporary/in" "$temporary/out"
  "$how" 127.0.0.1 "$port" <"$temporary/in" >"$temporary/out" 2>/dev/null \
    3>&- 4<&- 5>&- 6<&- 7<&- 8>&- &
  pids[client]=$!
  eval "exec $in>'$temporary/in' $out<'$temporary/out'"
  if [ "$how" = telnet ]; then
    while IFS= read -r -t 20 -u "$out" line; do # its greeting: three lines
      case $line in Escape*) break ;; esac
    done
  fi
}

# Sends a text in which escapes stand for bytes. Telnet makes CRLF of a line feed.
send() { # TEXT
  local text=$1
  if [ "$how" = bash ]; then
    { printf '%b' "$text" >&"$in"; } 2>/dev/null
    return
  fi
  [ "$how" = telnet ] && text=${text//'\r\n'/'\n'}
  # In one piece: bash's own printf would hand over line by line, and step 02 might have answered
  # and closed before the last.
  { env printf '%b' "$text" >&"$in"; } 2>/dev/null
}

# Sends a text many times.
send_many() { # TEXT COUNT
  local text=$1
  [ "$how" = telnet ] && text=${text//'\r\n'/'\n'}
  {
    awk -v text="$text" -v count="$2" 'BEGIN { while (count--) printf "%s", text }' >&"$in"
  } 2>/dev/null
}

# Whether the client may still type: a telnet leaves when the server closes.
is_open() { # NAME
  local known
  for known in ${clients[@]+"${clients[@]}"}; do
    [ "$known" != "$1" ] || return 0
  done
  return 1
}

is_there() { [ -z "${pids[client]}" ] || kill -0 "${pids[client]}" 2>/dev/null; }

# Closes the writing side, and when it must be gone at once, the reading side too.
close_client() { # now|later
  eval "exec $in>&-"
  [ "$1" = now ] || return
  eval "exec $out<&-"
  [ -z "${pids[client]}" ] || kill "${pids[client]}" 2>/dev/null
}

# With --predict, asks the class, before the last line is sent that an answer follows.
ask() { # STEP NAME NEXT_LINE
  case $3 in
    "$2<"* | "$2* silence" | "$2* server closes" | "$2* answer may be lost") ;;
    *) return ;;
  esac
  [ -n "$predict" ] && [ -z "$asked" ] || return
  asked=1
  show '?' "$bold" "What will $1 do? Answer, wait, close? (Enter)"
  read -r _ || true
}

# Compares a line that comes with the expected one.
receive() { # MARK EXPECTED
  local line='' want text=$2
  IFS= read -r -t 20 -u "$out" line 2>/dev/null || [ -n "$line" ] || {
    if [ -n "$lossy" ]; then
      [ -n "$lost" ] || show '*' "$bold" "the answer is lost: the connection was reset"
      lost=1
    else
      wrong "$2" "nothing more"
    fi
    return
  }
  line=${line%$'\r'} text=${text%\\}
  show "$1" '' "$line"
  case $text in
    *'\*'*)
      want=$(printf '%b' "${text%%'\*'*}")
      case $line in "$want"*) return ;; esac
      ;;
  esac
  want=$(printf '%b' "$text")
  [ "$line" = "$want" ] || wrong "$want" "$line"
}

wrong() { # EXPECTED CAME
  show '!' "$red" "expected: $1"
  show '!' "$red" "came: $2"
  failed=1
}

# After the last line of an answer: the server closes, and nothing more comes.
hear_close() {
  local line=''
  [ "$how" = nc ] && close_client later # nc does not leave while it can still be typed to.
  while IFS= read -r -t 20 -u "$out" line 2>/dev/null || [ -n "$line" ]; do
    wrong "the close" "$line"
    line=''
  done
  [ -z "${pids[client]}" ] || wait "${pids[client]}" 2>/dev/null
  pids[client]=''
}

# --- A session ------------------------------------------------------------------------------

# The lines of a session for a step: what all steps have in common, and the last section that
# begins no later than the step. Comments and empty lines are left out.
lines_for() { # STEP SESSION
  awk -v step="$1" '
    /^@ / { section = $2; if (section <= step) own = ""; next }
    /^#/ || /^$/ || /^[a-z]*\* .* matters$/ { next }
    section == "" { common = common $0 "\n"; next }
    section <= step { own = own $0 "\n" }
    END { printf "%s%s", common, own }
  ' "$sessions/$2.session"
}

# Why nothing comes back: who is answered when another client goes on waits for that one. Else
# the server waits for more.
why_silent() { # NAME NEXT_LINE...
  local name=$1 line who other=''
  shift
  for line in "$@"; do
    who=${line%%[!a-z]*}
    case $line in
      "$name>"* | "$name* client sends"*) other='' && break ;;
      "$name<"*) break ;;
      "$name*"*) ;;
      "$who>"* | "$who* client "*) [ -n "$other" ] || ! is_open "$who" || other=$who ;;
    esac
  done
  if [ -n "$other" ]; then
    echo "$name waits, $other is not done"
  else
    echo "the server waits for ${name:-more}"
  fi
}

# How many seconds a step gives a request.
patience() { # STEP
  sed -n 's/^const EXCHANGE_TIME.*from_secs(\([0-9]*\)).*/\1/p' "steps/$1/src/main.rs"
}

# With what to play these lines: telnet and nc cannot send every byte.
choose_how() { # LINES
  local typed
  how=$with
  case $1 in
    *'* client half-closes'*) how=none ;;
  esac
  typed=$(grep -E '^[a-z]*(>|\* client sends)' <<<"$1" | sed 's/\\r\\n//g; s/\\$//')
  case $typed in
    *[\\]*) [ "$how" = none ] || how=bash ;;
  esac
}

# Says what comes, and with --pause waits for Enter. With --predict it does not give it away.
announce() { # STEP SESSION
  local text
  show '==' "$bold" "$1: $(title "$2")"
  [ -n "$pause" ] || return
  text=$(about "$2")
  if [ ${#text} -gt 230 ]; then
    text=${text:0:230}
    text="${text% *} ..."
  fi
  [ -z "$text" ] || [ -n "$predict" ] || show '  ' '' "$text"
  put "(Enter)"
  read -r _ || put $'\n'
}

play() { # STEP SESSION
  local lines=() line index name rest kind batch='' next count text
  local mark lossy='' lost='' how later asked='' typed=''
  text=$(lines_for "$1" "$2")
  while IFS= read -r line; do lines+=("$line"); done <<<"$text"
  choose_how "$text"
  if [ "$how" = none ]; then
    show '*' "$bold" "left out: only the tests can close one side and listen on"
    return
  fi
  [ "$how" = "$with" ] || show '*' "$bold" "$with cannot type such bytes: bash sends them"
  clients=() pids=()
  for ((index = 0; index < ${#lines[@]}; index++)); do
    line=${lines[index]}
    name=${line%%[!a-z]*}
    rest=${line#"$name"}
    kind=${rest:0:1} rest=${rest:1}
    rest=${rest# }
    mark=$name$kind
    next=${lines[index + 1]:-}
    # A client connects when it sends, after all questions: step 05 has no patience.
    later=''
    case $kind$rest in
      '>'* | '*client sends'*) is_open "$name" || later=1 ;;
      *) asked='' ;;
    esac
    [ -n "$later" ] || choose "$name"
    case $kind in
      '>')
        [ -n "$later" ] || is_there || continue # The server has answered, and closed.
        show_typing "$mark" "${rest%\\}"
        case $rest in *\\) batch+=${rest%\\} ;; *) batch+=$rest'\r\n' ;; esac
        # Typed at once, or with a question before the answer, the lines are sent together.
        case ${fast:-$predict}$next:$predict in
          "1$mark"* | "1$name* client sends"*:1) ;;
          *)
            ask "$1" "$name" "$next"
            choose "$name"
            send "$batch"
            batch=''
            nap 0.4
            ;;
        esac
        ;;
      '<')
        case "${lines[*]:index}" in *"$name* answer may be lost"*) lossy=1 ;; *) lossy='' ;; esac
        case $rest in
          HTTP/*' 408 '*)
            text=$(patience "$1")
            show "$name*" "$bold" "the server waits for ${name:-more}, up to ${text:-some} seconds"
            ;;
        esac
        receive "$mark" "$rest"
        ;;
      '*')
        case $rest in
          'client sends '*)
            [ -n "$later" ] || is_there || continue
            rest=${rest#client sends } rest=${rest% times}
            count=${rest##* } text=${rest% *}
            show "$mark" "$blue" "$count times: $text"
            ask "$1" "$name" "$name<"
            choose "$name"
            send "$batch"
            batch=''
            send_many "$text" "$count"
            ;;
          'client closes' | 'client resets')
            show "$mark" "$blue" "${rest/resets/is killed}"
            close_client now
            ;;
          silence)
            if IFS= read -r -t 1 -u "$out" line; then
              wrong silence "$line"
            else
              show "$mark" "$bold" "silence: $(why_silent "$name" "${lines[@]:index + 1}")"
            fi
            nap 0.4
            ;;
          'server closes') show "$mark" '' "the server closes without a word" ;;
          'answer may be lost') ;;
          *) wrong "a mark that can be shown here" "* $rest" ;;
        esac
        ;;
    esac
    # The last line of this client: unless it has left, the server closes.
    case " ${lines[*]:index+1}" in *" $name"[\>\<*]*) continue ;; esac
    case $kind$rest in '*client closes' | '*client resets' | '*silence') continue ;; esac
    hear_close
  done
  for name in "${clients[@]}"; do
    choose "$name"
    close_client now
  done
  for name in "${clients[@]}"; do
    IFS= read -r -t 20 -u 7 line && show '|' "$magenta" "$line"
  done
  clients=() pids=()
  nap 1
}

# --- The show -------------------------------------------------------------------------------

if [ -z "$all" ] && [ ${#names[@]} -eq 0 ] && [ ${#steps[@]} -eq 0 ]; then names=(hello); fi
[ ${#steps[@]} -gt 0 ] || steps=("${all_steps[@]}")
[ -z "$note" ] || show '*' "$bold" "$note"
binaries=()
for step in "${steps[@]}"; do binaries+=(--bin "$step"); done
cargo build --quiet "${binaries[@]}" || exit 1
target=${CARGO_TARGET_DIR:-target}

failed=''
for step in "${steps[@]}"; do
  put $'\n'
  start_server "$step" 127.0.0.1:7777 || start_server "$step" 127.0.0.1:0 || {
    echo "$step does not start." >&2
    exit 1
  }
  if [ ${#names[@]} -gt 0 ]; then to_play=${names[*]}; else to_play=$(sessions_of "$step"); fi
  for name in $to_play; do
    announce "$step" "$name"
    play "$step" "$name"
  done
  stop_server
done
[ -z "$failed" ] || { echo "Some answers were not the expected ones." >&2; exit 1; }
