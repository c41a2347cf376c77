// How checks are counted and printed, and what they share: waiting and collecting messages.
package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/stan.go"
)

// checkTimeout is the end of a check whose own waits failed to end it.
const checkTimeout = 90 * time.Second

type suite struct {
	pattern                 string
	passed, failed, skipped int
}

// failure is what a check panics with; must and fail are only for the goroutine that runs the check.
type failure struct{ error }

func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func fail(format string, values ...any) { panic(failure{fmt.Errorf(format, values...)}) }

func attempt(body func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = p.error
		default:
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	body()
	return nil
}

// check runs one check and prints its line.
func (t *suite) check(name string, body func()) {
	done := make(chan error, 1)
	go func() { done <- attempt(body) }()
	var err error
	select {
	case err = <-done:
	case <-time.After(checkTimeout):
		err = fmt.Errorf("still running after %v", checkTimeout)
	}
	if err != nil {
		t.failed++
		fmt.Printf("FAIL go/%s: %s: %s\n", t.pattern, name, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	t.passed++
	fmt.Printf("ok go/%s: %s\n", t.pattern, name)
}

// checkBeyondReference is a check that nats-streaming-server itself fails, always or at times; it is
// skipped there.
func (t *suite) checkBeyondReference(name string, body func()) {
	if os.Getenv("WEIRLOG_REFERENCE") == "1" {
		t.skipped++
		fmt.Printf("skip go/%s: %s\n", t.pattern, name)
		return
	}
	t.check(name, body)
}

// run gives a pattern a server of its own and removes the data if all went well.
func (t *suite) run(pattern string, flags []string, checks func(*suite, *server)) {
	t.pattern = pattern
	failedBefore := t.failed
	var s *server
	if err := attempt(func() { s = newServer(pattern, flags...) }); err != nil {
		t.check("the server starts", func() { must(err) })
		return
	}
	checks(t, s)
	s.kill()
	if t.failed == failedBefore {
		os.RemoveAll(s.dir)
	} else {
		fmt.Printf("# server log and data of go/%s: %s\n", pattern, s.dir)
	}
}

// beside runs another pattern while this suite goes on; the caller waits for its end, which adds up what it found.
func (t *suite) beside(pattern string, flags []string, checks func(*suite, *server)) (wait func()) {
	other, done := &suite{}, make(chan struct{})
	go func() {
		defer close(done)
		other.run(pattern, flags, checks)
	}()
	return func() {
		<-done
		t.passed += other.passed
		t.failed += other.failed
		t.skipped += other.skipped
	}
}

// eventually polls a condition until it holds.
func eventually(what string, holds func() bool) {
	if !poll(holds) {
		fail("not within %v: %s", patience, what)
	}
}

func poll(holds func() bool) bool {
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// delivery is one message as it came, and when.
type delivery struct {
	*stan.Msg
	at time.Time
}

// sink collects what a subscription receives.
type sink struct {
	mutex      sync.Mutex
	deliveries []delivery
}

func (k *sink) add(m *stan.Msg) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.deliveries = append(k.deliveries, delivery{m, time.Now()})
}

func (k *sink) all() []delivery {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return append([]delivery(nil), k.deliveries...)
}

func (k *sink) count() int { return len(k.all()) }

// wait waits for at least count deliveries.
func (k *sink) wait(count int) {
	if !poll(func() bool { return k.count() >= count }) {
		fail("got %d of %d messages: %s", k.count(), count, k)
	}
}

// waitDistinct waits until the sinks have seen the messages first..last between them.
func waitDistinct(first, last uint64, sinks ...*sink) {
	missing := first
	complete := poll(func() bool {
		seen := map[uint64]bool{}
		for _, k := range sinks {
			for _, d := range k.all() {
				seen[d.Sequence] = true
			}
		}
		for missing = first; missing <= last && seen[missing]; missing++ {
		}
		return missing > last
	})
	if !complete {
		fail("message %d of %d..%d never came", missing, first, last)
	}
}

// expectRun waits for the messages first..last and nothing else before, between or after them.
func (k *sink) expectRun(first, last uint64) {
	k.wait(int(last - first + 1))
	next := first
	for _, d := range k.all() {
		if d.Sequence != next || string(d.Data) != payload(int(next)) {
			fail("expected %d next in %s", next, k)
		}
		next++
	}
	if next != last+1 {
		fail("expected the end at %d in %s", last, k)
	}
}

// expectPayloads: each message, as often as it came, is the one that was published under its number.
func (k *sink) expectPayloads() {
	for _, d := range k.all() {
		if string(d.Data) != payload(int(d.Sequence)) {
			fail("message %d is %q", d.Sequence, d.Data)
		}
	}
}

func (k *sink) String() string {
	text := ""
	for n, d := range k.all() {
		if n == 40 {
			return text + " ..."
		}
		text += fmt.Sprint(" ", d.Sequence)
		if d.Redelivered {
			text += "r"
		}
	}
	return "[" + text + " ]"
}
