// The Go part of the conformance suite: the five subscriber patterns with stan.go, unchanged,
// against the server in $SUT. With -kill N: only the test of N kills under load.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == withoutRing {
		becomeWithoutRing(os.Args[2:])
	}
	kills := flag.Int("kill", 5, "how often to kill the server under load")
	only := flag.String("only", "", "run only this pattern")
	seed := flag.Uint64("seed", 1, "seed of every random choice but ports")
	flag.Parse()
	// Dead clients are dropped within a second or so; live ones have time to answer on a busy machine.
	quickHeartbeats := []string{"-hbi", "300ms", "-hbt", "2s", "-hbf", "2"}
	strictHeartbeats := []string{"-hbi", "200ms", "-hbt", "200ms", "-hbf", "2"}
	t := &suite{}
	wait := func() {}
	if *only == "" || *only == "pause" {
		wait = t.beside("pause", nil, pause) // it mostly waits, for half a minute
	}
	for _, pattern := range []struct {
		name   string
		flags  []string
		checks func(*suite, *server)
	}{
		{"receive", nil, receive},
		{"resume", nil, func(t *suite, s *server) { resume(t, s, *seed) }},
		{"once", nil, func(t *suite, s *server) { once(t, s, *seed) }},
		{"history", nil, history},
		{"share", quickHeartbeats, func(t *suite, s *server) { share(t, s, *seed) }},
		{"session", nil, session},
		{"heartbeats", strictHeartbeats, heartbeats},
		{"survive", nil, survive},
		{"refuse", nil, refuse},
		{"upstream", quickHeartbeats, upstream},
		{"partition", quickHeartbeats, partition},
		{"login", nil, login},
		{"strangers", nil, strangers},
		{"monitor", monitorFlags(), monitor},
		{"abuse", abuseFlags(), abuse},
		{"kill", nil, func(t *suite, s *server) { kill(t, s, *kills, *seed) }},
	} {
		if *only == "" || *only == pattern.name {
			t.run(pattern.name, pattern.flags, pattern.checks)
		}
	}
	wait()
	fmt.Printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	if t.failed > 0 || t.passed == 0 {
		os.Exit(1)
	}
}
