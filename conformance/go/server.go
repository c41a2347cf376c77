// One server under test: its own port and data directory, started, killed with SIGKILL and
// started again; and the clients that talk to it.
package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"weirlog/conformance/sut"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
)

const (
	clusterID = "test-cluster"
	// patience bounds every wait. A pass never comes near it.
	patience = 15 * time.Second
	// ackWait is the shortest that the protocol allows.
	ackWait = time.Second
	// ports lie below the ephemeral range: a client that dials a dead port inside that range can
	// end up connected to itself, and a stranger's socket can take the port while the server is down.
	portFirst, portLast = 11000, 16999
)

type server struct {
	port    int
	dir     string
	flags   []string
	process *sut.Process
	// natsOptions are for the clients that connect to it.
	natsOptions []nats.Option
}

// newServer starts a server on an empty data directory.
func newServer(name string, flags ...string) *server {
	dir, err := os.MkdirTemp(os.Getenv("CONFORMANCE_DATA"), "go-"+name+"-")
	must(err)
	s := &server{port: freePort(), dir: dir, flags: flags}
	s.start()
	return s
}

func freePort() int { return sut.FreePort(portFirst, portLast) }

// start runs the server and returns when a STAN client can connect.
func (s *server) start() {
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(err)
	defer log.Close()
	args := []string{"-p", fmt.Sprint(s.port), "-cid", clusterID, "--store", "file",
		"--dir", filepath.Join(s.dir, "data"), "--max_msgs", "0", "--max_bytes", "0", "-mc", "0"}
	s.process, err = sut.Start(log, append(args, s.flags...)...)
	must(err)
	s.awaitReady()
}

func (s *server) awaitReady() {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case <-s.process.Exited:
			fail("server exited at start: %s", s.logTail())
		case <-time.After(10 * time.Millisecond):
		}
		c, err := s.dial(fmt.Sprintf("ready-%d", rand.Uint32()), nil, stan.ConnectWait(500*time.Millisecond))
		if err == nil {
			c.leave()
			return
		}
	}
	fail("server not ready after %v: %s", patience, s.logTail())
}

func (s *server) logTail() string {
	data, _ := os.ReadFile(filepath.Join(s.dir, "server.log"))
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " / ")
}

// kill ends the server as `kill -9` does.
func (s *server) kill() { s.process.End() }

// crash is a kill and a new start on the same data.
func (s *server) crash() {
	s.kill()
	s.start()
}

// client is a STAN client over a NATS connection of its own, so that the connection can be cut
// without the client saying goodbye.
type client struct {
	stan.Conn
	nc *nats.Conn
}

func (s *server) connect(id string, options ...stan.Option) *client {
	c, err := s.dial(id, nil, options...)
	must(err)
	return c
}

// connectSoon retries, for a server that is being killed and started meanwhile.
func (s *server) connectSoon(id string, options ...stan.Option) *client {
	options = append([]stan.Option{stan.ConnectWait(time.Second)}, options...)
	var c *client
	eventually(id+" connects", func() (connected bool) {
		var err error
		c, err = s.dial(id, nil, options...)
		return err == nil
	})
	return c
}

func (s *server) dial(id string, dialer nats.CustomDialer, options ...stan.Option) (*client, error) {
	natsOptions := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(30 * time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(64 << 20),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
	natsOptions = append(natsOptions, s.natsOptions...)
	if dialer != nil {
		natsOptions = append(natsOptions, nats.SetCustomDialer(dialer))
	}
	nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", s.port), natsOptions...)
	if err != nil {
		return nil, err
	}
	options = append([]stan.Option{stan.NatsConn(nc), stan.ConnectWait(patience / 4),
		stan.PubAckWait(patience / 2), stan.SetConnectionLostHandler(func(stan.Conn, error) {})}, options...)
	sc, err := stan.Connect(clusterID, id, options...)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &client{sc, nc}, nil
}

func (c *client) subscribe(channel string, handler stan.MsgHandler, options ...stan.SubscriptionOption) stan.Subscription {
	sub, err := c.Subscribe(channel, handler, options...)
	must(err)
	return sub
}

// collect subscribes to gather messages. Each is acked before it is gathered, so that whoever has
// seen it gathered may close or kill what he likes: the ack is on its way.
func (c *client) collect(channel string, k *sink, options ...stan.SubscriptionOption) stan.Subscription {
	return c.queueCollect(channel, "", k, options...)
}

func (c *client) queueCollect(channel, group string, k *sink, options ...stan.SubscriptionOption) stan.Subscription {
	ackAndAdd := func(m *stan.Msg) {
		m.Ack()
		k.add(m)
	}
	sub, err := c.QueueSubscribe(channel, group, ackAndAdd, append(options, stan.SetManualAckMode())...)
	must(err)
	return sub
}

// leave closes the STAN connection and then the NATS one.
func (c *client) leave() {
	err := c.Close()
	c.nc.Close()
	must(err)
}

// cut drops the connection as the death of the client's process does.
func (c *client) cut() { c.nc.Close() }

// payload of the nth message that a check publishes.
func payload(n int) string { return fmt.Sprintf("message-%d", n) }

// publish sends messages first..last and waits for every ack.
func (c *client) publish(channel string, first, last int) { c.publishing(channel, first, last)() }

// publishing sends messages first..last and returns the wait for their acks.
func (c *client) publishing(channel string, first, last int) (wait func()) {
	acks := make(chan error, last-first+1)
	for n := first; n <= last; n++ {
		_, err := c.PublishAsync(channel, []byte(payload(n)), func(_ string, err error) { acks <- err })
		must(err)
	}
	return func() {
		for range cap(acks) {
			if err := <-acks; err != nil {
				fail("publish on %s: %w", channel, err)
			}
		}
	}
}

// publishUntilAcked repeats one message until the server acks it.
func (c *client) publishUntilAcked(channel, text string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err := c.Publish(channel, []byte(text)); !errors.Is(err, stan.ErrTimeout) {
			return err
		}
	}
	return fmt.Errorf("%q: no ack within %v", text, patience)
}
