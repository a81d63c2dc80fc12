# install_packages NAME...: installs with apt what is not there. To be sourced.
install_packages() {
	local name log missing=""

	for name in "$@"; do
		dpkg-query -W -f '${Status}' "$name" 2> /dev/null | grep -q 'install ok installed' || missing+=" $name"
	done
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "these packages are missing: sudo apt-get install$missing" >&2
		return 1
	fi
	echo "== installing$missing"
	log=$(mktemp)
	# shellcheck disable=SC2086
	if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends $missing; } > "$log" 2>&1; then
		cat "$log" >&2
		return 1
	fi
	rm -f "$log"
}
