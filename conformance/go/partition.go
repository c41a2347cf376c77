// Two servers behind one NATS server share a cluster id, each with channels of its own. Clients notice nothing.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/stan.go"
)

// partitionFile writes the configuration of a server that has these channels.
func partitionFile(dir, name string, natsPort int, channels string) string {
	file := filepath.Join(dir, name+".conf")
	text := fmt.Sprintf("streaming {\n  nats_server_url: \"nats://127.0.0.1:%d\"\n  partitioning: true\n"+
		"  store_limits { channels { %s } }\n}\n", natsPort, channels)
	must(os.WriteFile(file, []byte(text), 0o644))
	return file
}

// partition is given a server that listens on its own, which it replaces by two behind a NATS server.
func partition(t *suite, first *server) {
	first.kill()
	port := freePort()
	nats := startNATS(port)
	defer nats.Shutdown()
	base := first.flags
	second := &server{port: port, dir: filepath.Join(first.dir, "second")}
	must(os.MkdirAll(second.dir, 0o755))
	second.flags = append(append([]string{}, base...), "-c", partitionFile(first.dir, "b", port, "\"b.>\" {}, both.b {}"))
	first.port = port
	first.flags = append(append([]string{}, base...), "-c", partitionFile(first.dir, "a", port, "\"a.*\" {}"))

	// Either server answers a client that connects, so readiness is what the log says.
	starts := 0
	startSecond := func() {
		starts++
		second.start()
		eventually("the second server is ready", func() bool {
			log, _ := os.ReadFile(filepath.Join(second.dir, "server.log"))
			return strings.Count(string(log), "is ready") == starts
		})
	}

	t.check("two servers share the channels of a cluster id", func() {
		first.start()
		startSecond()
		c := first.connect("p1", stan.MaxPubAcksInflight(500))
		for _, channel := range []string{"a.one", "b.one", "b.two.deep", "both.b"} {
			c.publish(channel, 1, 200)
			var all sink
			c.collect(channel, &all, stan.DeliverAllAvailable(), stan.DurableName("d"))
			all.expectRun(1, 200)
		}
		c.leave()
	})

	t.check("a channel of neither is not answered", func() {
		c := first.connect("p2", stan.PubAckWait(500*time.Millisecond))
		if err := c.Publish("c.one", []byte("x")); err != stan.ErrTimeout {
			fail("a publish to nobody's channel ended with %v", err)
		}
		c.leave()
	})

	t.check("a client publishes as soon as it is connected", func() {
		for n := range 20 {
			c := first.connect(fmt.Sprintf("quick-%d", n))
			c.publish("a.quick", n+1, n+1)
			c.publish("b.quick", n+1, n+1)
			c.leave()
		}
	})

	t.check("a server with a channel of another one is refused", func() {
		file := partitionFile(first.dir, "c", port, "c {}, a.seven {}")
		expectRefusal([]string{"-c", file, "--dir", filepath.Join(first.dir, "third")}, "another server", "a.seven")
	})

	t.check("one server dies and comes back: nothing acked is lost, the other goes on", func() {
		c := first.connect("p3")
		var dead, alive sink
		c.collect("b.kill", &dead, stan.DurableName("d"), stan.DeliverAllAvailable())
		c.collect("a.kill", &alive, stan.DurableName("d"), stan.DeliverAllAvailable())
		c.publish("b.kill", 1, 100)
		second.kill()
		c.publish("a.kill", 1, 100)
		waitDistinct(1, 100, &alive)
		startSecond()
		for n := 101; n <= 200; n++ {
			must(c.publishUntilAcked("b.kill", payload(n)))
		}
		waitDistinct(1, 200, &dead)
		c.leave()
	})
	second.kill()
}
