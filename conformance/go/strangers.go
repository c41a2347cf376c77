// Connections that have not said who they are: what each may cost before it does, in memory and in time.
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/crypto/bcrypt"
)

const (
	// strangersMax is how many there are at once, if a process may have so many files.
	strangersMax = 10_000
	// strangerBytesMax is what one of them may cost the server.
	strangerBytesMax = 8 << 10
	// strangerTime is how long the server waits for a CONNECT unless told otherwise.
	strangerTime = 2 * time.Second
	// user and password of those that belong here.
	insider, password = "insider", "a password of some length"
)

// startGuarded runs a server that wants a password, which is hashed in its configuration; more is further lines of the
// block that says so, and blocks are others; options are for its clients.
func startGuarded(first *server, name, more, blocks string, options ...nats.Option) *server {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	must(err)
	s := &server{port: freePort(), dir: filepath.Join(first.dir, name)}
	s.natsOptions = append(options, nats.UserInfo(insider, password))
	must(os.MkdirAll(s.dir, 0o755))
	file := filepath.Join(s.dir, "guarded.conf")
	text := fmt.Sprintf("authorization { user: %s, password: %q, %s }\nmax_control_line: 1MB\n%s", insider, hash, more, blocks)
	must(os.WriteFile(file, []byte(text), 0o600))
	s.flags = []string{"-c", file}
	s.start()
	return s
}

// strangers opens connections that each say this and no more.
func (s *server) strangers(count int, text string) []net.Conn {
	conns := make([]net.Conn, count)
	for n := range conns {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
		must(err)
		must(say(conn, text))
		conns[n] = conn
	}
	return conns
}

// costEach opens connections and tells what each of them costs the server in memory. What a server has from its first
// connections on is not theirs: warm opens those.
func (s *server) costEach(count int, warm, begin func() net.Conn) (each int, conns []net.Conn) {
	open := func(count int, begin func() net.Conn) (conns []net.Conn) {
		for range count {
			conns = append(conns, begin())
		}
		return conns
	}
	for _, conn := range open(100, warm) {
		conn.Close()
	}
	before := s.memoryMB("VmRSS:")
	conns = open(count, begin)
	time.Sleep(time.Second / 2)
	return (s.memoryMB("VmRSS:") - before) << 20 / count, conns
}

func strangers(t *suite, first *server) {
	first.kill()
	var files syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	count := int(min(strangersMax, files.Max-500))

	t.checkBeyondReference(fmt.Sprintf("%d connections with half a CONNECT cost at most 8 KiB each", count), func() {
		s := startGuarded(first, "memory", "timeout: 60", "")
		defer s.kill()
		one := func(text string) func() net.Conn {
			return func() net.Conn { return s.strangers(1, text)[0] }
		}
		half := "CONNECT {\"name\":\""
		each, conns := s.costEach(count, one(half), one(half+strings.Repeat("n", 4_096)))
		c := s.connect("known")
		c.publish("beside", 1, 10)
		fmt.Printf("# %d strangers: %d bytes each\n", count, each)
		if each > strangerBytesMax {
			fail("%d bytes each", each)
		}
		for _, conn := range conns {
			conn.Close()
		}
		c.leave()
	})

	t.checkBeyondReference("a CONNECT that goes on is not read to its end, and what follows one waits outside", func() {
		s := startGuarded(first, "long", "timeout: 60", "")
		defer s.kill()
		endless := s.strangers(1, "CONNECT {\"name\":\""+strings.Repeat("n", 100_000))[0]
		if said := lastWord(endless); !strings.Contains(said, "maximum control line exceeded") {
			fail("said %q", said)
		}
		// The password takes tens of milliseconds to compare.
		connect := fmt.Sprintf("CONNECT {\"verbose\":false,\"user\":%q,\"pass\":%q}\r\n", insider, password)
		eager := s.strangers(1, connect+strings.Repeat("PING\r\n", 20_000)+"BYE\r\n")[0]
		if said := lastWord(eager); strings.Count(said, "PONG\r\n") != 20_000 {
			fail("%d answers to 20,000 pings", strings.Count(said, "PONG\r\n"))
		}
	})

	t.checkBeyondReference("who does not say who he is has 2 s", func() {
		s := startGuarded(first, "time", "", "")
		defer s.kill()
		start := time.Now()
		conns := s.strangers(100, "CONNECT {")
		opened := time.Since(start)
		for _, conn := range conns {
			if said := lastWord(conn); !strings.Contains(said, "Authentication Timeout") {
				fail("said %q", said)
			}
		}
		fmt.Printf("# 100 strangers closed after %v\n", time.Since(start).Round(time.Millisecond))
		if took := time.Since(start); took < strangerTime || took > strangerTime+opened+patience/5 {
			fail("closed after %v", took)
		}
	})

	strangersOverTLS(t, first)
}
