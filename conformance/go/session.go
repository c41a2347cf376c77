// Sessions: client ids, pings, heartbeats, refusals and goodbyes.
package main

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/stan.go"
)

// freezer dials connections that can be frozen: they stay open, but nothing more is heard from the
// server, as with a process that was stopped.
type freezer struct {
	frozen atomic.Bool
	thawed chan struct{}
}

func newFreezer() *freezer { return &freezer{thawed: make(chan struct{})} }

func (f *freezer) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, patience)
	return &frozenConn{c, f}, err
}

type frozenConn struct {
	net.Conn
	*freezer
}

func (c *frozenConn) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	if c.frozen.Load() {
		<-c.thawed
	}
	return n, err
}

func (f *freezer) freeze() { f.frozen.Store(true) }

func (f *freezer) thaw() {
	f.frozen.Store(false)
	close(f.thawed)
}

func expectError(err error, text string) {
	if err == nil || err.Error() != text {
		fail("expected %q, got %v", text, err)
	}
}

const replaced = "client has been replaced or is no longer registered"

func session(t *suite, s *server) {
	t.check("a client id is refused while its owner is alive", func() {
		c := s.connect("owner")
		_, err := s.dial("owner", nil)
		expectError(err, "stan: clientID already registered")
		must(c.Publish("owner", []byte("still here")))
		c.leave()
	})

	t.check("an id is free again after a clean close; a closed client is closed", func() {
		for range 20 {
			c := s.connect("clean")
			c.leave()
			if err := c.Publish("clean", nil); !errors.Is(err, stan.ErrConnectionClosed) {
				fail("publish after close: %v", err)
			}
		}
	})

	t.check("close of the client suspends durables and ends other subscriptions", func() {
		c := s.connect("goodbye")
		var durable, plain, again sink
		c.collect("goodbye", &durable, stan.DurableName("mark"))
		c.subscribe("goodbye", plain.add)
		c.leave()
		other := s.connect("greeter")
		other.publish("goodbye", 1, 3)
		c = s.connect("goodbye")
		c.collect("goodbye", &again, stan.DurableName("mark"))
		again.expectRun(1, 3)
		if durable.count()+plain.count() > 0 {
			fail("closed subscriptions received messages")
		}
		c.leave()
		other.leave()
	})

	t.check("the id of a client that does not answer is taken over; its ping tells it so", func() {
		f := newFreezer()
		lost := make(chan error, 1)
		_, err := s.dial("taken", f, stan.Pings(1, 100), stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { lost <- err }))
		must(err)
		f.freeze()
		next := s.connect("taken")
		f.thaw()
		expectError(await(lost), replaced)
		must(next.Publish("taken", []byte("mine")))
		next.leave()
	})

	t.check("the id of a client that was cut off is taken over at once", func() {
		s.connect("cut").cut()
		begin := time.Now()
		c := s.connect("cut")
		if took := time.Since(begin); took > 3*time.Second {
			fail("took %v", took)
		}
		c.leave()
	})

	t.check("invalid client ids are refused", func() {
		for _, id := range []string{"with space", "dot.ted", "sláinte", "a/b"} {
			_, err := s.dial(id, nil)
			expectError(err, "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed")
		}
	})

	t.check("publishing to an invalid channel name is an error", func() {
		c := s.connect("invalid", stan.PubAckWait(500*time.Millisecond))
		for _, channel := range []string{"star.*", "star*", "tail.>", "a/b"} {
			expectError(c.Publish(channel, []byte("x")), "stan: invalid publish request")
		}
		// These are no subjects of NATS either: an answer is not sure to come, an ack must not.
		for _, channel := range []string{"", ".a", "a.", "a..b"} {
			if err := c.Publish(channel, []byte("x")); err == nil {
				fail("publish to %q was acked", channel)
			}
		}
		c.leave()
	})

	t.check("subscribing to an invalid channel name is an error", func() {
		c := s.connect("invalid")
		for _, channel := range []string{"star.*", "tail.>", "a/b", "", ".a", "a.", "a..b"} {
			_, err := c.Subscribe(channel, func(*stan.Msg) {})
			expectError(err, "stan: invalid subject")
		}
		c.leave()
	})

	t.check("channel names of any other kind hold messages", func() {
		c := s.connect("names")
		for _, channel := range []string{"a", "a.b.c", "A-b_C", "Ünïcode", "$dollar.#hash", fmt.Sprintf("%0200d", 1)} {
			var got sink
			c.subscribe(channel, got.add)
			c.publish(channel, 1, 2)
			got.expectRun(1, 2)
		}
		c.leave()
	})

	t.check("messages from empty to a megabyte arrive whole", func() {
		c := s.connect("sizes")
		var got sink
		c.subscribe("sizes", got.add)
		sizes := []int{0, 1, 4095, 4096, 4097, 100_000, 1_000_000}
		for _, size := range sizes {
			must(c.Publish("sizes", pattern(size)))
		}
		got.wait(len(sizes))
		for n, d := range got.all() {
			if string(d.Data) != string(pattern(sizes[n])) {
				fail("message of %d bytes came as %d others", sizes[n], len(d.Data))
			}
		}
		c.leave()
	})

	t.check("a client whose server is gone loses its connection after its pings", func() {
		lost := make(chan error, 1)
		s.connect("pings", stan.Pings(1, 2), stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { lost <- err }))
		s.kill()
		err := await(lost)
		s.start()
		expectError(err, stan.ErrMaxPings.Error())
	})
}

func await(lost <-chan error) error {
	select {
	case err := <-lost:
		return err
	case <-time.After(patience):
		return errors.New("no word of a lost connection")
	}
}

func pattern(size int) []byte {
	data := make([]byte, size)
	for n := range data {
		data[n] = byte(n * 31 / 7)
	}
	return data
}

// joinFreezable joins a queue group by a connection that can be frozen, and acks nothing.
func joinFreezable(s *server, id, channel string, options ...stan.Option) (*member, *freezer) {
	f := newFreezer()
	c, err := s.dial(id, f, options...)
	must(err)
	m := &member{client: c}
	m.sub, err = c.QueueSubscribe(channel, "workers", m.got.add, stan.SetManualAckMode())
	must(err)
	return m, f
}

// dropped publishes 20 messages to a queue group, freezes a member that acks nothing and waits until
// the living one has them all. The ack wait is 30 s: only the drop of the frozen client brings them.
func (living *member) dropped(channel string, frozen *member, f *freezer) {
	living.publish(channel, 1, 20)
	frozen.got.wait(1)
	f.freeze()
	begin := time.Now()
	waitDistinct(1, 20, &living.got)
	if took := time.Since(begin); took > 10*time.Second {
		fail("took %v", took)
	}
}

// pause runs on a server with the default heartbeats, which are longer than the pause, for clients with default settings.
func pause(t *suite, s *server) {
	t.check("a server that was stopped for 30 s loses nothing and drops nobody", func() {
		var got sink
		var isAcking atomic.Bool
		lost := make(chan error, 2)
		whenLost := stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { lost <- err })
		holder := s.connect("holder", whenLost)
		holder.subscribe("pause", func(m *stan.Msg) {
			if isAcking.Load() {
				m.Ack()
			}
			got.add(m)
		}, stan.SetManualAckMode(), stan.DurableName("mark"), stan.AckWait(10*time.Second))
		publisher := s.connect("publisher", whenLost, stan.PubAckWait(checkTimeout))
		publisher.publish("pause", 1, 10)
		got.wait(10)
		must(s.process.Signal(syscall.SIGSTOP))
		stopped := time.Now()
		waits := []func(){}
		for n := 11; time.Since(stopped) < 30*time.Second; n++ {
			waits = append(waits, publisher.publishing("pause", n, n))
			time.Sleep(100 * time.Millisecond)
		}
		isAcking.Store(true)
		must(s.process.Signal(syscall.SIGCONT))
		for _, wait := range waits {
			wait()
		}
		last := 10 + len(waits)
		publisher.publish("pause", last+1, last+10)
		waitDistinct(1, uint64(last+10), &got)
		// The first ten come again: nobody acked them.
		got.wait(last + 20)
		got.expectPayloads()
		_, err := s.dial("holder", nil)
		expectError(err, "stan: clientID already registered")
		select {
		case err := <-lost:
			fail("a connection was lost: %v", err)
		default:
		}
		holder.leave()
		publisher.leave()
	})
}

// heartbeats runs on a server that gives a client up after about a second.
func heartbeats(t *suite, s *server) {
	t.check("a dead client is dropped, its unacked messages go to others; a live one stays", func() {
		dying, f := joinFreezable(s, "dying", "beats")
		living := join(s, "living", "beats")
		living.dropped("beats", dying, f)
		living.publish("beats", 21, 40)
		waitDistinct(21, 40, &living.got)
		living.leave()
	})

	t.check("a server that was stopped for 25 heartbeats drops nobody for it", func() {
		living := join(s, "living", "stopped")
		defer living.leave()
		must(s.process.Signal(syscall.SIGSTOP))
		time.Sleep(5 * time.Second)
		must(s.process.Signal(syscall.SIGCONT))
		living.publish("stopped", 1, 20)
		waitDistinct(1, 20, &living.got)
		time.Sleep(time.Second)
		living.publish("stopped", 21, 40)
		waitDistinct(21, 40, &living.got)
	})

	t.check("the id of a dropped client is free at once, without asking it", func() {
		// To ask it takes the server half a second. The best of three, for busy machines.
		fastest := patience
		for n := range 3 {
			channel := fmt.Sprint("free-", n)
			dying, f := joinFreezable(s, channel, channel)
			living := join(s, "living", channel)
			living.dropped(channel, dying, f)
			begin := time.Now()
			next := s.connect(channel)
			fastest = min(fastest, time.Since(begin))
			next.leave()
			living.leave()
		}
		if fastest > 400*time.Millisecond {
			fail("took %v, as long as asking the old one", fastest)
		}
	})

	t.check("a dropped client learns of it by its ping", func() {
		lost := make(chan error, 1)
		dying, f := joinFreezable(s, "learns", "learns", stan.Pings(1, 100),
			stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { lost <- err }))
		living := join(s, "living", "learns")
		living.dropped("learns", dying, f)
		f.thaw()
		expectError(await(lost), replaced)
		living.leave()
	})
}
