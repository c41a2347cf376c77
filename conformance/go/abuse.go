// Clients that mean harm, or look like it: while they are at it, others keep their service and the server its memory.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/stan.go"
)

const (
	// What the server's configuration allows all connections to buffer, and one to have waiting.
	bufferedMaxMB, pendingMaxMB = 64, 16
	// What the server needs for itself: its code, caches, and what grows with connections.
	baseMB = 160
	// Each core has a ceiling of its own.
	abuseCores = 1
	// What a moment may take above the ceiling and the server at rest: freed buffers, which the allocator keeps for a second,
	// and all that baseMB is for. More of it where half messages come faster than those closed for them give back; without
	// a ceiling they would take 100 MB more than that.
	allowanceMB, halfMessagesAllowanceMB, halfMessagesCount = 256, 448, 600
	// serviceMax is how long another client's publish and delivery may take at most: 15 times the worst that was seen.
	serviceMax = 5 * time.Second
	// halfLinesMax is how many connections send half a line, if a process may have so many files.
	halfLinesMax = 10_000
)

// abuseFlags writes the configuration that has the ceilings.
func abuseFlags() []string {
	name := filepath.Join(os.Getenv("CONFORMANCE_DATA"), "abuse.conf")
	text := fmt.Sprintf("max_buffered: %dMB\nmax_pending: %dMB\n", bufferedMaxMB, pendingMaxMB)
	must(os.WriteFile(name, []byte(text), 0o644))
	return []string{"-c", name, "--cores", strconv.Itoa(abuseCores)}
}

func abuse(t *suite, s *server) {
	ceiling := abuseCores*bufferedMaxMB + s.memoryMB("VmRSS:")
	watchedWithin := func(allowance int, name string, body func()) {
		t.checkBeyondReference(name, func() {
			must(os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.process.Pid), []byte("5"), 0))
			slowest := s.whileServing(body)
			peak := s.memoryMB("VmHWM:")
			fmt.Printf("# %s: peak %d MB, slowest publish of another %v\n", name, peak, slowest.Round(time.Millisecond))
			if most := ceiling + allowance; peak > most {
				fail("took %d MB, more than %d MB", peak, most)
			}
			if slowest > serviceMax {
				fail("another client waited %v", slowest)
			}
			s.expectMemory()
		})
	}
	watched := func(name string, body func()) { watchedWithin(allowanceMB, name, body) }
	var files syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	count := int(min(halfLinesMax, files.Max-500))
	watched(fmt.Sprintf("%d connections send half a line", count), func() { s.halfLines(count) })
	halfMessages := func(what, begin string) {
		name := fmt.Sprintf("%d connections send most of a %s of a megabyte", halfMessagesCount, what)
		watchedWithin(halfMessagesAllowanceMB, name, func() { s.halfMessages(begin) })
	}
	halfMessages("message", "PUB most %d\r\n")
	halfMessages("header block", "HPUB most %[1]d %[1]d\r\nNATS/1.0\r\nEndless: ")
	watched("header blocks above max_payload, and of a megabyte without an end", s.giantHeaders)
	watched("a control line without an end, and headers without one", s.endlessLines)
	watched("100,000 subscriptions of one connection that goes", s.manySubscriptions)
	watched("a million subscriptions of one connection", s.tooManySubscriptions)
	watched("subscribers that never read", s.neverRead)
	watched("publishers faster than the disk", s.floodedDisk)
	watched("ten clients fight for one id", s.sameID)
	watched("connections that come and go at once", s.storm)
}

// whileServing runs the body while another client publishes and gets what it publishes, and tells the longest it
// waited for that.
func (s *server) whileServing(body func()) time.Duration {
	other := s.connect("bystander", stan.Pings(5, 20))
	defer other.cut() // a goodbye would hide what failed
	got := make(chan uint64, 100)
	other.subscribe("bystander", func(m *stan.Msg) { got <- m.Sequence })
	done := make(chan error, 1)
	go func() { done <- attempt(body) }()
	var slowest time.Duration
	for {
		start := time.Now()
		must(other.Publish("bystander", []byte("still here")))
		select {
		case <-got:
		case <-time.After(patience):
			fail("another client got nothing for %v", patience)
		}
		slowest = max(slowest, time.Since(start))
		select {
		case err := <-done:
			must(err)
			other.leave()
			return slowest
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// expectMemory waits until the server is below the ceiling: its allocator keeps what is freed for a second or two.
func (s *server) expectMemory() {
	eventually(fmt.Sprintf("less than %d MB", baseMB+bufferedMaxMB), func() bool {
		return s.memoryMB("VmRSS:") < baseMB+bufferedMaxMB
	})
}

// memoryMB is the memory that the server has now (VmRSS), or had at most since that mark was taken back (VmHWM).
func (s *server) memoryMB(field string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Pid))
	must(err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kB, err := strconv.Atoi(strings.Fields(rest)[0])
			must(err)
			return kB / 1024
		}
	}
	fail("no %s in %s", field, status)
	return 0
}

// raw opens a connection and says hello, as one that sends headers.
func (s *server) raw() net.Conn {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	must(err)
	say(conn, "CONNECT {\"verbose\":false,\"headers\":true}\r\n")
	return conn
}

// say sends, to a server that may close any time.
func say(conn net.Conn, text string) error {
	conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(conn, text)
	return err
}

// lastWord reads until the server closes.
func lastWord(conn net.Conn) string {
	conn.SetReadDeadline(time.Now().Add(patience))
	said, err := io.ReadAll(conn)
	if netError, ok := err.(net.Error); ok && netError.Timeout() {
		fail("not closed after %v", patience)
	}
	return string(said)
}

// crowd opens connections that each say this. The error is the first of those that could not.
func (s *server) crowd(count int, text string) (conns []net.Conn, err error) {
	for range count {
		conn := s.raw()
		conns = append(conns, conn)
		if failed := say(conn, text); err == nil {
			err = failed
		}
	}
	return conns, err
}

func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		conn.Close()
	}
}

func (s *server) halfLines(count int) {
	conns, err := s.crowd(count, "PUB half.a.li")
	defer closeAll(conns)
	must(err)
	time.Sleep(time.Second)
	must(say(conns[0], "ne 2\r\nok\r\nPING\r\n"))
	expectWord(conns[0], "PONG")
}

// expectWord reads lines until one is it.
func expectWord(conn net.Conn, word string) {
	conn.SetReadDeadline(time.Now().Add(patience))
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if lines.Text() == word {
			return
		}
	}
	fail("no %s: %v", word, lines.Err())
}

// halfMessages sends most of a message, which begins like this with its size in the line.
func (s *server) halfMessages(begin string) {
	const size, count = 1_000_000, halfMessagesCount
	// Those that are closed while they send fail.
	conns, _ := s.crowd(count, fmt.Sprintf(begin, size)+strings.Repeat("x", size-100))
	defer closeAll(conns)
	said := make([]string, count)
	closed := 0
	least := count - bufferedMaxMB*(1<<20)/size
	// A busy server takes its time to read them all.
	isClosed := poll(func() bool {
		closed = 0
		for n, conn := range conns {
			conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			more, _ := io.ReadAll(conn)
			said[n] += string(more)
			if strings.Contains(said[n], "Too Many Bytes Buffered") {
				closed++
			}
		}
		return closed >= least
	})
	if !isClosed {
		fail("%d of %d were closed with a word, wanted %d", closed, count, least)
	}
	s.expectMemory()
}

func (s *server) endlessLines() {
	for _, line := range []string{
		"PUB " + strings.Repeat("x", 1<<20),
		"SUB " + strings.Repeat("x.", 1<<19),
		"CONNECT " + strings.Repeat("{", 1<<20),
		"HPUB a " + strings.Repeat("9", 1<<20),
	} {
		conn := s.raw()
		say(conn, line)
		if said := lastWord(conn); !strings.Contains(said, "-ERR ") {
			fail("%s...: %q", line[:8], said)
		}
		conn.Close()
	}
	conn := s.raw()
	defer conn.Close()
	say(conn, "HPUB a 9223372036854775807 9223372036854775808\r\n")
	// As nats-server does: closed without a word.
	lastWord(conn)
}

// giantHeaders: what is too large is refused by its line, before any of it is kept; what only looks wrong is the reader's.
func (s *server) giantHeaders() {
	const payloadMax = 1 << 20
	for _, sizes := range []string{"1048577 1048577", "1048577 2097152", "1048570 1048577", "9000000 9000010"} {
		conn := s.raw()
		say(conn, "HPUB giant "+sizes+"\r\nNATS/1.0\r\nGiant: "+strings.Repeat("x", payloadMax))
		if said := lastWord(conn); !strings.Contains(said, "-ERR 'Maximum Payload Violation'") {
			fail("HPUB of %s: %q", sizes, said)
		}
		conn.Close()
	}
	block := "NATS/1.0\r\nEndless: " + strings.Repeat("x", 1_000_000)
	conn, other := s.raw(), s.raw()
	defer conn.Close()
	defer other.Close()
	must(say(other, "SUB giant 1\r\nPING\r\n"))
	expectWord(other, "PONG")
	must(say(conn, fmt.Sprintf("HPUB giant %[1]d %[1]d\r\n%[2]s\r\nPUB giant 2\r\nok\r\nPING\r\n", len(block), block)))
	expectWord(conn, "PONG")
	expectWord(other, "ok")
}

func (s *server) manySubscriptions() {
	conn := s.raw()
	defer conn.Close()
	var batch strings.Builder
	for n := range 100_000 {
		fmt.Fprintf(&batch, "SUB many.%d.* %d\r\n", n, n)
	}
	must(say(conn, batch.String()+"PING\r\n"))
	expectWord(conn, "PONG")
}

// More than the ceiling holds: it is closed with a word.
func (s *server) tooManySubscriptions() {
	conn := s.raw()
	defer conn.Close()
	heard := make(chan string)
	go func() { heard <- lastWord(conn) }()
	var batch strings.Builder
	for n := range 1_000_000 {
		fmt.Fprintf(&batch, "SUB too.many.%d %d\r\n", n, n)
	}
	// It may be closed meanwhile.
	say(conn, batch.String())
	if said := <-heard; !strings.Contains(said, "Too Many Bytes Buffered (Subscriptions)") {
		fail("%q", said)
	}
	s.expectMemory()
}

func (s *server) neverRead() {
	conns, err := s.crowd(8, "SUB flood 1\r\n")
	defer closeAll(conns)
	must(err)
	publisher := s.raw()
	defer publisher.Close()
	// Each of them is to get three times of what may wait for it.
	message := "PUB flood 8000\r\n" + strings.Repeat("x", 8000) + "\r\n"
	for range 3 * pendingMaxMB * (1 << 20) / 8000 {
		must(say(publisher, message))
	}
	must(say(publisher, "PING\r\n"))
	expectWord(publisher, "PONG")
}

func (s *server) floodedDisk() {
	c := s.connect("flood", stan.MaxPubAcksInflight(200_000), stan.PubAckWait(checkTimeout))
	defer c.leave()
	var acks sync.WaitGroup
	var failed error
	var once sync.Once
	body := make([]byte, 1000)
	for range 150_000 {
		acks.Add(1)
		_, err := c.PublishAsync("flood", body, func(_ string, err error) {
			if err != nil {
				once.Do(func() { failed = err })
			}
			acks.Done()
		})
		must(err)
	}
	acks.Wait()
	must(failed)
}

func (s *server) sameID() {
	var all sync.WaitGroup
	until := time.Now().Add(2 * time.Second)
	for range 10 {
		all.Go(func() {
			for time.Now().Before(until) {
				// It is refused while another has the id and lives.
				if c, err := s.dial("fought-over", nil, stan.ConnectWait(2*time.Second)); err == nil {
					c.Publish("fought", []byte("mine"))
					c.cut()
				}
			}
		})
	}
	all.Wait()
	s.connectSoon("fought-over").leave()
}

func (s *server) storm() {
	var all sync.WaitGroup
	until := time.Now().Add(2 * time.Second)
	for n := range 32 {
		all.Go(func() {
			for time.Now().Before(until) {
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
				if err != nil {
					continue
				}
				if n%2 == 0 {
					say(conn, "CONNECT {}\r\nSUB a 1\r\nPING\r\n")
				}
				// Without TIME_WAIT: ports would run out.
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		})
	}
	all.Wait()
}
