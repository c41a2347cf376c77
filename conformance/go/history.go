// Pattern: read the history from a position; a durable knows its position better.
package main

import (
	"time"

	"github.com/nats-io/stan.go"
)

// startPosition is an option, made when it is used, and the first message that it promises
// (0: the last one).
type startPosition struct {
	name  string
	make  func() stan.SubscriptionOption
	first uint64
}

// past is a channel whose messages 1..10 are half a second or more older than `between`, and
// 11..last as much younger.
type past struct {
	*server
	between time.Time
	last    uint64
}

const pastChannel = "past"

func history(t *suite, s *server) {
	const old = 10
	h := &past{server: s}
	t.check("20 messages, 10 of them a second older", func() {
		c := s.connect("publisher")
		c.publish(pastChannel, 1, old)
		published := time.Now()
		h.between = published.Add(500 * time.Millisecond)
		eventually("a second passes", func() bool { return time.Since(published) > time.Second })
		h.last = 2 * old
		c.publish(pastChannel, old+1, int(h.last))
		c.leave()
	})

	positions := []startPosition{
		{"DeliverAllAvailable", stan.DeliverAllAvailable, 1},
		{"StartWithLastReceived", stan.StartWithLastReceived, 0},
		{"StartAtSequence", func() stan.SubscriptionOption { return stan.StartAtSequence(7) }, 7},
		{"StartAtTime", func() stan.SubscriptionOption { return stan.StartAtTime(h.between) }, old + 1},
		{"StartAtTimeDelta", func() stan.SubscriptionOption { return stan.StartAtTimeDelta(time.Since(h.between)) }, old + 1},
	}
	for _, p := range positions {
		t.check(p.name, func() { h.readFrom(p) })
	}
	t.check("without a position only new messages come", func() { newOnly(s, "new-only") })
	t.check("a position past the end waits for new messages", func() {
		newOnly(s, "past-end", stan.StartAtSequence(100))
	})
	for _, p := range positions {
		t.check(p.name+" with a durable: the durable wins on resume", func() {
			h.durableWins(p, "mark-"+p.name, func() {})
		})
	}
	for _, p := range positions {
		t.check(p.name+" after kill -9", func() {
			s.crash()
			h.readFrom(p)
		})
	}
	for _, p := range positions {
		t.check(p.name+" with a durable: only what is new after kill -9", func() {
			h.durableWins(p, "mark-kill-"+p.name, s.crash)
		})
	}
}

func (h *past) firstOf(p startPosition) uint64 {
	if p.first == 0 {
		return h.last
	}
	return p.first
}

func (h *past) readFrom(p startPosition) {
	c := h.connect("reader")
	var got sink
	c.subscribe(pastChannel, got.add, p.make())
	got.expectRun(h.firstOf(p), h.last)
	c.leave()
}

// durableWins gives a durable its start position twice; only the first counts.
func (h *past) durableWins(p startPosition, durable string, between func()) {
	var before, after sink
	c := h.connect(durable)
	c.collect(pastChannel, &before, stan.DurableName(durable), p.make())
	before.expectRun(h.firstOf(p), h.last)
	c.leave()
	between()
	c = h.connect(durable)
	c.publish(pastChannel, int(h.last+1), int(h.last+2))
	h.last += 2
	c.collect(pastChannel, &after, stan.DurableName(durable), p.make())
	after.expectRun(h.last-1, h.last)
	c.leave()
}

func newOnly(s *server, channel string, options ...stan.SubscriptionOption) {
	c := s.connect(channel)
	c.publish(channel, 1, 5)
	var got sink
	c.subscribe(channel, got.add, options...)
	c.publish(channel, 6, 10)
	got.expectRun(6, 10)
	c.leave()
}
