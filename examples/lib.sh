# What the examples share: installing what is missing, building weir, a broker, a scratch PostgreSQL. To be
# sourced by a script that has set
#   work    an empty directory for everything that is started
#   kafka   embedded, real, or HOST:PORT
# and calls, in this order, prepare, build, start_broker, start_postgres; and stop_all at the end.
#
# PG=15 or PG_CONFIG=... picks PostgreSQL; WEIR_INSTALLED=1: weir is installed there already.
# As root, everything that is started runs as user postgres: PostgreSQL refuses root.

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$examples/.." && pwd)
PG=${PG:-15}

say() { printf '\n== %s\n' "$*"; }

as_user() {
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- env HOME="$work/postgres" "$@"
	else
		"$@"
	fi
}

# prepare [PACKAGE...]: installs them and what weir itself needs
prepare() {
	. "$top/test/packages.sh"
	local needs="gcc g++ make librdkafka-dev libsimdjson-dev"

	[ -n "${PG_CONFIG:-}" ] || needs+=" postgresql-$PG postgresql-server-dev-$PG"
	[ "$kafka" != real ] || needs+=" perl maven default-jre-headless"
	# shellcheck disable=SC2086
	install_packages $needs "$@"
	PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/$PG/bin/pg_config}
	bindir=$("$PG_CONFIG" --bindir)
	psql=("$bindir/psql" -X -h "$work/postgres" -U postgres -d postgres)
	mkdir "$work/postgres" "$work/kafka"
	[ "$(id -u)" != 0 ] || chown postgres: "$work/postgres" "$work/kafka"
}

# Builds and installs weir from a copy of the tree, and the programs of the examples.
build() {
	mkdir "$work/src"
	tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' -cf - . | tar -C "$work/src" -xf -
	if [ -z "${WEIR_INSTALLED:-}" ]; then
		say "building weir for $("$PG_CONFIG" --version)"
		make -C "$work/src" -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" all
		make -C "$work/src" -s PG_CONFIG="$PG_CONFIG" install > /dev/null
	fi
	gcc -O2 -o "$work/ktool" "$top/test/kafka/ktool.c" -lrdkafka
	gcc -O2 -o "$work/produce" "$examples/produce.c" -lrdkafka
	# postgres may not be able to enter the directory that this was started in
	cd "$work"
}

# start_broker TOPIC:PARTITIONS...: sets $bootstrap
start_broker() {
	local topic jars

	say "starting a broker ($kafka)"
	export WEIR_KTOOL=$work/ktool
	case $kafka in
	embedded)
		gcc -O2 -o "$work/broker" "$examples/quickstart/broker.c" -lrdkafka
		mkfifo "$work/answer"
		# in a session of its own, so that Ctrl-C does not end it before the rest
		setsid "$work/broker" $(printf -- '--topic %s ' "$@") > "$work/answer" 2> "$work/broker.log" < /dev/null &
		echo $! > "$work/broker.pid"
		read -r _ bootstrap < "$work/answer"
		;;
	real)
		jars=$("$top/test/kafka/jars")
		cp -R "$jars" "$work/jars"
		chmod -R a+rX "$work/jars"
		bootstrap=$(WEIR_KAFKA_JARS=$work/jars as_user "$work/src/test/kafka/broker" start "$work/kafka")
		;;
	*) bootstrap=$kafka ;;
	esac
	if [ "$kafka" != embedded ]; then
		for topic in "$@"; do
			"$work/ktool" "$bootstrap" create "${topic%:*}" "${topic#*:}" ||
				echo "going on with the topic \"${topic%:*}\" that is there"
		done
	fi
	echo "Kafka listens on $bootstrap"
}

start_postgres() {
	say "starting a scratch PostgreSQL"
	as_user "$bindir/initdb" -D "$work/postgres/data" -A trust -U postgres --no-sync > "$work/initdb.log"
	cat >> "$work/postgres/data/postgresql.conf" <<-CONF
		shared_preload_libraries = 'weir'
		listen_addresses = ''
		unix_socket_directories = '$work/postgres'
	CONF
	as_user "$bindir/pg_ctl" -D "$work/postgres/data" -l "$work/postgres/log" -w start > /dev/null ||
		{ tail -n 20 "$work/postgres/log"; exit 1; }
}

psql() { "${psql[@]}" "$@"; }

# end PID...: ends these processes. (bash's own wait can hang in a trap that interrupts another wait.)
end() {
	local pid

	for pid in "$@"; do
		! kill "$pid" 2> /dev/null || timeout 10 tail -s 0.1 --pid="$pid" -f /dev/null || kill -KILL "$pid" || true
	done
}

stop_all() {
	[ ! -e "$work/postgres/data/postmaster.pid" ] || as_user "$bindir/pg_ctl" -D "$work/postgres/data" -m immediate stop > /dev/null 2>&1 || true
	[ ! -e "$work/broker.pid" ] || end "$(cat "$work/broker.pid")"
	[ ! -e "$work/kafka/pid" ] || as_user "$work/src/test/kafka/broker" kill "$work/kafka" || true
	cd /
	rm -rf "$work"
}
