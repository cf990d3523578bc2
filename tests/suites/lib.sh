# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# The tests of other projects, as they are, must come to the same inside a mesh as outside: test by
# test, also those that fail. A suite defines
#
#   suite_run CGROUP GROUP…    runs these groups of tests there and prints their results, one a line:
#                              group, test, outcome, and as JSON what was said about it; tabs between
#
# and calls suite_compare. All that such tests connect to is on the loopback interface of the pod.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/real_lib.sh"

SUITES=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
NOBODY=65534
REPEATS=4 # more runs outside, of what came to something else inside

# The tests of others do not run as root: who knows what they would do to this host.
suite_new() # BUILD_DIR
{
	sandbox_new "$@"
	chmod 711 "$DIR"
	mkdir "$DIR/home"
	chown "$NOBODY:$NOBODY" "$DIR/home"
}

# No address is redirected: what these programs find out about the network is what is there.
suite_mesh()
{
	mesh_start <<-END
		include_cidrs = 192.0.2.0/24
	END
}

# The environment of a suite is the same wherever it is started from.
suite_enter() # CGROUP COMMAND…
{
	enter "$1" "$APP" setpriv --reuid "$NOBODY" --regid "$NOBODY" --clear-groups \
		env -i HOME="$DIR/home" TMPDIR="$DIR/home" LANG=C.UTF-8 \
		PATH=/usr/bin:/bin:/usr/sbin:/sbin "${@:2}"
}

suite_results() # FORMAT: of what is on stdin
{
	"$PYTHON" "$SUITES/results.py" "$1"
}

suite_compare() # GROUP…
{
	local again=() run group
	suite_run outside "$@" >"$DIR/outside-0"
	for group; do
		grep -q "^$group	" "$DIR/outside-0" || fail "$group gives no results outside"
	done
	suite_run app "$@" >"$DIR/inside"
	# Whatever differs is tried again outside. If it varies there too, it says nothing.
	mapfile -t again < <("$PYTHON" "$SUITES/compare.py" --groups "$DIR"/{inside,outside-0})
	for ((run = 1; run <= REPEATS && ${#again[@]} > 0; run++)); do
		suite_run outside "${again[@]}" >"$DIR/outside-$run"
	done
	"$PYTHON" "$SUITES/compare.py" "$DIR/inside" "$DIR"/outside-* ||
		fail "not the same inside as outside"
}

# The source of a Debian package: a copy in $DIR/home of what is kept in the build directory.
suite_source() # PACKAGE
{
	local kept=$BUILD/tests/sources
	mkdir -p "$kept"
	[ -e "$kept/$1" ] || source_fetch "$1" "$kept/$1" >"$DIR/source.log" 2>&1 ||
		skip "no source of $1 to be had: $(tail -n 1 "$DIR/source.log")"
	cp -r "$kept/$1" "$DIR/home/$1"
	chown -R "$NOBODY:$NOBODY" "$DIR/home/$1"
}

source_fetch() # PACKAGE DIRECTORY
(
	apt=$DIR/apt
	mkdir -p "$apt"/{lists/partial,parts,source/unpacked}
	# Those of the host's own sources that are Debian's; what the host knows of packages stays.
	if [ -e /etc/apt/sources.list.d/debian.sources ]; then
		sed 's/^Types: .*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources \
			>"$apt/parts/debian.sources"
	else
		sed -n 's/^deb \(.*debian\.org.*\)/deb-src \1/p' /etc/apt/sources.list \
			>"$apt/parts/debian.list"
	fi
	options=(
		-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/parts"
		-o Dir::State::lists="$apt/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
		-o APT::Sandbox::User=root
	)
	cd "$apt/source" &&
		timeout 120 apt-get "${options[@]}" update &&
		timeout 120 apt-get "${options[@]}" source --download-only "$1" &&
		tar -xf "$1"_*.orig.tar.* -C unpacked --strip-components 1 &&
		mv -T unpacked "$2"
)
