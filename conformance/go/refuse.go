// Starts that must fail: one line on standard error with the flag's or file's name, exit code 1, and nothing changed.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func refuse(t *suite, s *server) {
	data := filepath.Join(s.dir, "data")
	port := fmt.Sprint(freePort())
	t.checkBeyondReference("bad flags are named in one line", func() {
		for _, c := range []struct{ flags, names string }{
			{"--nonsense", "-nonsense"},
			{"-p twelve", "-p"},
			{"-p 70000", "-p"},
			{"-st tape", "-st"},
			{"-mm -5", "-mm"},
			{"-ma soon", "-ma"},
			{"-mb 1x", "-mb"},
			{"--shards 65", "-shards"},
			{"-st sql", "SQL"},
			{"--clustered", "-clustered"},
		} {
			expectRefusal(strings.Fields(c.flags), c.names)
		}
	})

	t.checkBeyondReference("without io_uring, or memory to lock, it says what is missing", func() {
		sut, fresh := os.Getenv("SUT"), filepath.Join(s.dir, "fresh")
		self, err := os.Executable()
		must(err)
		expectRefusalOf([]string{self, withoutRing, sut, "-p", port, "--dir", fresh}, "io_uring", "seccomp")
		expectRefusalOf([]string{"sh", "-c", `ulimit -l 64; exec "$0" "$@"`, sut, "-p", port, "--dir", fresh},
			"locked memory", "65536", "ulimit -l")
	})

	t.checkBeyondReference("a directory in use is refused", func() {
		expectRefusal([]string{"-p", port, "--dir", data}, "in use", data)
		// The server that has it did not notice.
		s.connect("unharmed").leave()
	})

	t.checkBeyondReference("a port in use is refused", func() {
		other := filepath.Join(s.dir, "other")
		expectRefusal([]string{"-a", "127.0.0.1", "-p", fmt.Sprint(s.port), "--dir", other}, fmt.Sprint(s.port))
	})

	t.checkBeyondReference("the store of another cluster or shape is refused and not changed", func() {
		s.kill()
		before := tree(data)
		expectRefusal([]string{"-p", port, "--dir", data, "-cid", "another"}, "cluster ID", data)
		expectRefusal([]string{"-p", port, "--dir", data, "--shards", "3"}, "--shards", data)
		if after := tree(data); after != before {
			fail("changed from %s to %s", before, after)
		}
		s.start()
	})

	t.check("another program may have the port at once", func() {
		c := s.connect("last")
		s.kill()
		// The kernel ends the rings of a killed process, which hold its sockets, a moment later.
		eventually("the port is free", func() bool {
			listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
			if err == nil {
				listener.Close()
			}
			return err == nil
		})
		c.cut()
		s.start()
	})

	t.checkBeyondReference("a directory that holds something else is refused and not changed", func() {
		for _, name := range []string{"photo.jpg", "server.dat"} {
			foreign := filepath.Join(s.dir, "foreign-"+name)
			must(os.Mkdir(foreign, 0o755))
			must(os.WriteFile(filepath.Join(foreign, name), []byte("mine"), 0o644))
			before := tree(foreign)
			expectRefusal([]string{"-p", port, "--dir", foreign}, name, foreign)
			if after := tree(foreign); after != before {
				fail("changed from %s to %s", before, after)
			}
		}
	})
}

// expectRefusal runs the server, which must not start, and looks at its last words.
func expectRefusal(flags []string, names ...string) {
	expectRefusalOf(append([]string{os.Getenv("SUT")}, flags...), names...)
}

// expectRefusalOf does so with a whole command.
func expectRefusalOf(words []string, names ...string) {
	flags := words[1:]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, words[0], flags...)
	var said strings.Builder
	command.Stderr = &said
	var exit *exec.ExitError
	if err := command.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		fail("%q: ended with %v, said %q", flags, err, said.String())
	}
	text := strings.TrimSuffix(said.String(), "\n")
	if text == "" || strings.Contains(text, "\n") {
		fail("%q: not one line: %q", flags, text)
	}
	for _, name := range names {
		if !strings.Contains(text, name) {
			fail("%q: no %q in %q", flags, name, text)
		}
	}
}

// tree tells all names below a directory, with their sizes and times, but for the lock, which is only held.
func tree(root string) string {
	var all strings.Builder
	must(filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && info.Name() != "LOCK" {
			fmt.Fprintf(&all, "%s %d %s; ", path, info.Size(), info.ModTime().Format(time.RFC3339Nano))
		}
		return err
	}))
	return all.String()
}
