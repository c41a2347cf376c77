// Pattern: receive what is published from now on, in order, until acked.
package main

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/stan.go"
)

func receive(t *suite, s *server) {
	t.check("2000 messages arrive in order", func() {
		c := s.connect("order")
		var got sink
		c.subscribe("order", got.add)
		c.publish("order", 1, 2000)
		got.expectRun(1, 2000)
		c.leave()
	})

	t.check("an unacked message comes again after the ack wait while later ones flow", func() {
		c := s.connect("again")
		const unacked, last = 10, 50
		var got sink
		c.subscribe("again", func(m *stan.Msg) {
			got.add(m)
			if m.Sequence != unacked || m.Redelivered {
				m.Ack()
			}
		}, stan.SetManualAckMode(), stan.AckWait(ackWait))
		c.publish("again", 1, last)
		got.wait(last + 1)
		all := got.all()
		first, again := all[unacked-1], all[last]
		switch waited := again.at.Sub(first.at); {
		case first.Sequence != unacked || again.Sequence != unacked:
			fail("expected 1..%d, then %d again: %s", last, unacked, &got)
		case first.Redelivered || !again.Redelivered || again.RedeliveryCount != 1:
			fail("marks: first %v, then %v with count %d", first.Redelivered, again.Redelivered, again.RedeliveryCount)
		case waited < ackWait*9/10:
			fail("came again after %v already", waited)
		}
		// What was acked stays away: the next thing to come is the next message.
		c.publish("again", last+1, last+1)
		got.wait(last + 2)
		if d := got.all()[last+1]; d.Sequence != last+1 {
			fail("expected %d last: %s", last+1, &got)
		}
		c.leave()
	})

	t.check("at most MaxInflight messages are out unacked", func() {
		c := s.connect("inflight")
		var held, free sink
		c.subscribe("inflight", held.add, stan.SetManualAckMode(), stan.MaxInflight(5))
		c.subscribe("inflight", free.add)
		c.publish("inflight", 1, 20)
		free.expectRun(1, 20)
		for n := uint64(5); n < 20; n++ {
			held.expectRun(1, n)
			must(held.all()[n-5].Ack())
		}
		held.expectRun(1, 20)
		c.leave()
	})

	t.check("a live subscription goes on over kill -9 of the server", func() {
		c := s.connect("on")
		var got sink
		c.subscribe("on", got.add, stan.AckWait(ackWait))
		c.publish("on", 1, 100)
		s.crash()
		c.publish("on", 101, 200)
		waitDistinct(1, 200, &got)
		c.leave()
	})

	t.check("an unsubscribed subscription receives no more", func() {
		c := s.connect("no-more")
		var gone atomic.Int64
		var stays sink
		sub := c.subscribe("no-more", func(*stan.Msg) { gone.Add(1) })
		c.subscribe("no-more", stays.add)
		must(sub.Unsubscribe())
		c.publish("no-more", 1, 10)
		stays.expectRun(1, 10)
		if gone.Load() != 0 {
			fail("received %d", gone.Load())
		}
		c.leave()
	})

	t.check("timestamps do not go back and are of today", func() {
		c := s.connect("stamps")
		var got sink
		c.subscribe("stamps", got.add)
		before := time.Now().UnixNano()
		c.publish("stamps", 1, 100)
		after := time.Now().UnixNano()
		got.expectRun(1, 100)
		slack := time.Second.Nanoseconds()
		last := before - slack
		for _, d := range got.all() {
			if d.Timestamp < last || d.Timestamp > after+slack {
				fail("message %d has timestamp %d, expected %d..%d", d.Sequence, d.Timestamp, last, after)
			}
			last = d.Timestamp
		}
		c.leave()
	})
}
