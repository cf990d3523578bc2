# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Completion of shuntctl for bash; needs nothing but bash.
# shellcheck shell=bash

# Cgroups by their path below the mount, as shuntctl takes them; one part at a time.
_shuntctl_cgroups()
{
	local mount path
	mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts 2>/dev/null)
	[ -n "$mount" ] || return
	compopt -o nospace # more parts may follow
	while IFS= read -r path; do
		COMPREPLY+=("${path#"$mount"}")
	done < <(compgen -d -- "$mount$1")
}

_shuntctl_files()
{
	compopt -o filenames
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

# What follows the options of flows and events, or one more of them.
_shuntctl_flows() # WORD PREVIOUS OPTIONS
{
	local words
	case $2 in
	--mesh) return ;;
	--cgroup)
		_shuntctl_cgroups "$1"
		return
		;;
	--pid) words=$(cd /proc && printf '%s ' [0-9]*) ;;
	--port) return ;;
	--state) words='plain ready spliced spilled left' ;;
	--sort) words='age bytes' ;;
	*) words=$3 ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$1")
}

_shuntctl_graph()
{
	local words
	case $2 in
	-i | -n) return ;;
	-T) words='svg png pdf dot' ;;
	*) words='-i -n -T' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$1")
}

_shuntctl_filters='--mesh --cgroup --pid --port --state'
_shuntctl_commands='status flows events top graph counters meshes cgroups explain doctor exec reload detach'

_shuntctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} i=1
	COMPREPLY=()

	# The options before the command, and the place of the command.
	while [ "$i" -lt "$COMP_CWORD" ]; do
		case ${COMP_WORDS[i]} in
		-s) i=$((i + 2)) ;;
		-*) i=$((i + 1)) ;;
		*) break ;;
		esac
	done
	if [ "$i" -gt "$COMP_CWORD" ]; then
		_shuntctl_files "$word"
		return
	fi
	if [ "$i" -eq "$COMP_CWORD" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$_shuntctl_commands -s -j --help --version" -- "$word")
		return
	fi

	case ${COMP_WORDS[i]}:$((COMP_CWORD - i)) in
	cgroups:1) mapfile -t COMPREPLY < <(compgen -W -a -- "$word") ;;
	top:*) mapfile -t COMPREPLY < <(compgen -W '-d -b -n' -- "$word") ;;
	graph:*) _shuntctl_graph "$word" "${COMP_WORDS[COMP_CWORD - 1]}" ;;
	flows:*) _shuntctl_flows "$word" "${COMP_WORDS[COMP_CWORD - 1]}" "$_shuntctl_filters --sort" ;;
	events:*) _shuntctl_flows "$word" "${COMP_WORDS[COMP_CWORD - 1]}" "$_shuntctl_filters" ;;
	explain:1) _shuntctl_cgroups "$word" ;;
	explain:2) mapfile -t COMPREPLY < <(compgen -W 'tcp: udp:' -- "$word") ;;
	exec:1) _shuntctl_cgroups "$word" ;;
	exec:2) COMPREPLY=(--) ;;
	exec:3) mapfile -t COMPREPLY < <(compgen -c -- "$word") ;;
	exec:*) _shuntctl_files "$word" ;;
	esac
	# What follows exec's cgroup is another command's.
	if [[ $word == -* && ${COMP_WORDS[i]}:$((COMP_CWORD - i)) != exec:[2-9]* ]]; then
		mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W '-j --help' -- "$word")
	fi
}

complete -F _shuntctl shuntctl
