// What the server has answered outlives `kill -9`: clients, subscriptions, their ends, and acks.
package main

import (
	"time"

	"github.com/nats-io/stan.go"
)

func survive(t *suite, s *server) {
	t.check("a live client and its subscriptions go on without a new STAN connection", func() {
		lost := make(chan error, 1)
		c := s.connect("live", stan.Pings(1, 30), stan.SetConnectionLostHandler(func(_ stan.Conn, err error) { lost <- err }))
		var plain, durable, queue sink
		c.subscribe("live", plain.add, stan.AckWait(ackWait))
		c.subscribe("live", durable.add, stan.AckWait(ackWait), stan.DurableName("mark"))
		c.queueCollect("live", "workers", &queue, stan.AckWait(ackWait))
		for round := range 3 {
			c.publish("live", round*10+1, round*10+10)
			for _, k := range []*sink{&plain, &durable, &queue} {
				waitDistinct(1, uint64(round*10+10), k)
			}
			s.crash()
		}
		begin := time.Now()
		eventually("a ping or two", func() bool { return time.Since(begin) > 1500*time.Millisecond })
		select {
		case err := <-lost:
			fail("connection lost: %v", err)
		default:
		}
		_, err := s.dial("live", nil)
		expectError(err, "stan: clientID already registered")
		c.leave()
	})

	t.checkBeyondReference("an answered subscribe survives", func() {
		for range 3 {
			c := s.connect("subscribes")
			var got sink
			c.subscribe("subscribes", got.add, stan.AckWait(ackWait), stan.DurableName("mark"))
			s.crash()
			_, err := c.Subscribe("subscribes", got.add, stan.DurableName("mark"))
			expectError(err, "stan: duplicate durable registration")
			must(c.Publish("subscribes", nil))
			got.wait(1)
			c.leave()
		}
	})

	t.check("an answered close of a subscription survives", func() {
		c := s.connect("closes")
		sub := c.collect("closes", &sink{}, stan.DurableName("mark"))
		must(sub.Close())
		s.crash()
		c.publish("closes", 1, 3)
		var again sink
		c.collect("closes", &again, stan.DurableName("mark"))
		again.expectRun(1, 3)
		c.leave()
	})

	t.check("an answered unsubscribe survives", func() {
		c := s.connect("unsubscribes")
		c.publish("unsubscribes", 1, 5)
		sub := c.collect("unsubscribes", &sink{}, stan.DurableName("mark"))
		must(sub.Unsubscribe())
		s.crash()
		var again sink
		c.collect("unsubscribes", &again, stan.DurableName("mark"), stan.DeliverAllAvailable())
		again.expectRun(1, 5)
		c.leave()
	})

	t.check("an answered connect and an answered close of a client survive", func() {
		c := s.connect("connects")
		s.crash()
		// Once it is acked, the client's connection is there again and can be asked whether it lives.
		c.publish("connects", 1, 1)
		_, err := s.dial("connects", nil)
		expectError(err, "stan: clientID already registered")
		c.leave()
		s.crash()
		s.connect("connects").leave()
	})

	t.check("acks that came before an answer survive", func() {
		c := s.connect("acks")
		var got, again sink
		sub := c.collect("acks", &got, stan.DurableName("mark"), stan.MaxInflight(5))
		c.publish("acks", 1, 20)
		got.expectRun(1, 20)
		must(sub.Close())
		s.crash()
		c.publish("acks", 21, 21)
		c.collect("acks", &again, stan.DurableName("mark"))
		again.expectRun(21, 21)
		c.leave()
	})

	t.check("unacked messages come again to a live durable", func() {
		c := s.connect("unacked")
		var got sink
		c.subscribe("unacked", got.add, stan.DurableName("mark"), stan.SetManualAckMode(), stan.AckWait(ackWait))
		c.publish("unacked", 1, 10)
		got.wait(10)
		before := got.count()
		s.crash()
		eventually("all ten come again", func() bool {
			again := map[uint64]bool{}
			for _, d := range got.all()[before:] {
				again[d.Sequence] = d.Redelivered
			}
			return len(again) == 10
		})
		c.leave()
	})
}
