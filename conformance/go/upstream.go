// A NATS server of its own kind, whose clients the server under test serves (-ns). Either may die and come back.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/stan.go"
)

// startNATS starts a NATS server in this process.
func startNATS(port int) *natsd.Server {
	return startNATSWith(&natsd.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true})
}

func startNATSWith(options *natsd.Options) *natsd.Server {
	n, err := natsd.NewServer(options)
	must(err)
	go n.Start()
	if !n.ReadyForConnections(patience) {
		fail("the NATS server does not start")
	}
	return n
}

// upstream is given a server that listens on its own, which it replaces by one behind a NATS server.
func upstream(t *suite, s *server) {
	s.kill()
	port := freePort()
	nats := startNATS(port)
	s.port, s.flags = port, append(s.flags, "-ns", fmt.Sprintf("nats://127.0.0.1:%d", port))
	if err := attempt(s.start); err != nil {
		t.check("the server joins a NATS server", func() { must(err) })
		return
	}

	t.check("clients of the NATS server publish, subscribe, ack and replay", func() {
		c := s.connect("a", stan.MaxPubAcksInflight(2000))
		c.publish("up.one", 1, 2000)
		var all, again sink
		c.collect("up.one", &all, stan.DeliverAllAvailable(), stan.DurableName("d"))
		all.expectRun(1, 2000)
		other := s.connect("b")
		other.collect("up.one", &again, stan.StartAtSequence(1500))
		again.expectRun(1500, 2000)
		other.leave()
		c.leave()
	})

	t.check("queue groups share and heartbeats find the dead", func() {
		c, dead := s.connect("c"), s.connect("dead")
		var mine, lost sink
		_, err := dead.QueueSubscribe("up.q", "g", lost.add, stan.SetManualAckMode(), stan.AckWait(ackWait))
		must(err)
		c.queueCollect("up.q", "g", &mine, stan.AckWait(ackWait))
		c.publish("up.q", 1, 20)
		dead.cut()
		waitDistinct(1, 20, &mine)
		c.leave()
	})

	t.check("a second server of the same cluster id is refused", func() {
		expectRefusal([]string{"-ns", fmt.Sprintf("nats://127.0.0.1:%d", port), "--dir",
			filepath.Join(s.dir, "second")}, "discovered another streaming server", "test-cluster")
	})

	t.check("a NATS server that does not answer is named", func() {
		nobody := freePort()
		expectRefusal([]string{"-ns", fmt.Sprintf("nats://127.0.0.1:%d", nobody), "--dir",
			filepath.Join(s.dir, "nobody")}, fmt.Sprint(nobody))
	})

	t.checkBeyondReference("kill -9 loses nothing, and clients go on", func() {
		c := s.connect("d")
		var live sink
		c.collect("up.kill", &live, stan.DurableName("d"), stan.DeliverAllAvailable())
		c.publish("up.kill", 1, 100)
		s.crash()
		for n := 101; n <= 200; n++ {
			must(c.publishUntilAcked("up.kill", payload(n)))
		}
		waitDistinct(1, 200, &live)
		c.leave()
	})

	t.check("a NATS server that comes back is joined again", func() {
		c := s.connect("e")
		var live sink
		c.collect("up.back", &live, stan.DeliverAllAvailable())
		c.publish("up.back", 1, 10)
		nats.Shutdown()
		nats.WaitForShutdown()
		time.Sleep(300 * time.Millisecond)
		nats = startNATS(port)
		must(c.publishUntilAcked("up.back", payload(11)))
		waitDistinct(1, 11, &live)
		c.leave()
	})

	t.checkBeyondReference("the log says where the clients are", func() {
		data, err := os.ReadFile(filepath.Join(s.dir, "server.log"))
		must(err)
		if !strings.Contains(string(data), fmt.Sprintf("on nats://127.0.0.1:%d", port)) {
			fail("the log does not say where clients are: %s", s.logTail())
		}
	})
	nats.Shutdown()
}
