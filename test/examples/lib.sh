# TAP for the tests of the examples. To be sourced.
tests=0
failures=0

# ok NAME COMMAND...: the command succeeds
ok() {
	local name=$1
	shift
	tests=$((tests + 1))
	if "$@"; then
		echo "ok $tests - $name"
	else
		echo "not ok $tests - $name"
		failures=$((failures + 1))
	fi
}

# is NAME GOT EXPECTED
is() {
	ok "$1" [ "$2" = "$3" ]
	[ "$2" = "$3" ] || printf '#      got: %s\n# expected: %s\n' "$2" "$3"
}

# eventually COMMAND...: the command succeeds within a minute
eventually() {
	local give_up=$((SECONDS + 60))

	until "$@"; do
		[ $SECONDS -lt $give_up ] || return 1
		sleep 0.1
	done
}

done_testing() {
	echo "1..$tests"
	[ "$failures" = 0 ]
}
