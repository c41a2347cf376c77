// Pattern: pick up where I left off, by a durable name.
package main

import (
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/nats-io/stan.go"
)

// away lets a durable receive 1..10, leave, miss 11..20, and come back for them.
func away(s *server, name string, between func()) {
	var before, after sink
	c := s.connect(name)
	c.collect(name, &before, stan.DurableName("mark"))
	c.publish(name, 1, 10)
	before.expectRun(1, 10)
	c.leave()
	other := s.connect(name + "-publisher")
	other.publish(name, 11, 20)
	between()
	c = s.connect(name)
	c.collect(name, &after, stan.DurableName("mark"))
	after.expectRun(11, 20)
	other.cut()
	c.leave()
}

func resume(t *suite, s *server, seed uint64) {
	t.check("messages published while away arrive on return", func() {
		away(s, "away", func() {})
	})

	t.check("messages published while away arrive on return after kill -9", func() {
		away(s, "away-kill", s.crash)
	})

	t.check("close at the first error, resubscribe: the failed one first, then the rest", func() {
		c := s.connect("error")
		const failing = 4
		var before, after sink
		var failed atomic.Bool
		closed := make(chan error, 1)
		var sub stan.Subscription
		subscribed := make(chan struct{})
		sub = c.subscribe("error", func(m *stan.Msg) {
			<-subscribed
			if failed.Load() {
				return
			}
			before.add(m)
			if m.Sequence == failing {
				failed.Store(true)
				closed <- sub.Close()
				return
			}
			m.Ack()
		}, stan.DurableName("mark"), stan.SetManualAckMode())
		close(subscribed)
		c.publish("error", 1, 100)
		must(<-closed)
		before.expectRun(1, failing)
		c.collect("error", &after, stan.DurableName("mark"))
		after.expectRun(failing, 100)
		c.leave()
	})

	t.check("MaxInflight(1) with manual acks is a total order under a failing handler", func() {
		totalOrder(s, seed)
	})

	t.check("the same durable name on two channels is two positions", func() {
		c := s.connect("two")
		var left, right, leftAgain, rightAgain sink
		subLeft := c.collect("two.left", &left, stan.DurableName("mark"))
		subRight := c.collect("two.right", &right, stan.DurableName("mark"))
		c.publish("two.left", 1, 5)
		left.expectRun(1, 5)
		must(subLeft.Close())
		must(subRight.Close())
		c.publish("two.left", 6, 6)
		c.publish("two.right", 1, 3)
		c.collect("two.left", &leftAgain, stan.DurableName("mark"))
		c.collect("two.right", &rightAgain, stan.DurableName("mark"))
		leftAgain.expectRun(6, 6)
		rightAgain.expectRun(1, 3)
		c.leave()
	})

	t.check("close remembers, unsubscribe forgets", func() {
		c := s.connect("forget")
		c.publish("forget", 1, 5)
		options := []stan.SubscriptionOption{stan.DurableName("mark"), stan.DeliverAllAvailable()}
		var first, closed, forgotten sink
		sub := c.collect("forget", &first, options...)
		first.expectRun(1, 5)
		must(sub.Close())
		c.publish("forget", 6, 7)
		sub = c.collect("forget", &closed, options...)
		closed.expectRun(6, 7)
		must(sub.Unsubscribe())
		c.collect("forget", &forgotten, options...)
		forgotten.expectRun(1, 7)
		c.leave()
	})

	t.check("an active durable cannot be taken twice", func() {
		c := s.connect("twice")
		nothing := func(*stan.Msg) {}
		c.subscribe("twice", nothing, stan.DurableName("mark"))
		_, err := c.Subscribe("twice", nothing, stan.DurableName("mark"))
		if err == nil || err.Error() != "stan: duplicate durable registration" {
			fail("second subscribe answered %v", err)
		}
		c.leave()
	})
}

// totalOrder processes 1..last one at a time. Now and then the handler fails: it leaves the message
// to the ack wait, or closes the durable subscription and takes it up again.
func totalOrder(s *server, seed uint64) {
	c := s.connect("total")
	const last, leavesMax = 150, 3
	random := rand.New(rand.NewPCG(seed, 0))
	processed, leaves := []string{}, 0
	closing, done := make(chan stan.Subscription), make(chan struct{})
	var sub stan.Subscription
	var subscribed chan struct{}
	handler := func(m *stan.Msg) {
		<-subscribed
		dice := random.IntN(100)
		if dice < 5 && leaves < leavesMax {
			leaves++
			return
		}
		if dice < 15 {
			closing <- sub
			return
		}
		processed = append(processed, string(m.Data))
		m.Ack()
		if len(processed) == last {
			close(done)
		}
	}
	c.publish("total", 1, last)
	for finished := false; !finished; {
		subscribed = make(chan struct{})
		sub = c.subscribe("total", handler, stan.DurableName("mark"), stan.DeliverAllAvailable(),
			stan.SetManualAckMode(), stan.MaxInflight(1), stan.AckWait(ackWait))
		close(subscribed)
		select {
		case sub := <-closing:
			must(sub.Close())
		case <-done:
			finished = true
		}
	}
	c.leave()
	for n, text := range processed {
		if text != payload(n+1) {
			fail("seed %d: %s came in place of %s: %s", seed, text, payload(n+1), strings.Join(processed[:n+1], " "))
		}
	}
}
