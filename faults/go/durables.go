// Durables that are made, acked, closed, resumed and removed, with what each answer promised.
package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/stan.go"
)

// keeper is the client whose durables the ledger knows.
const keeper = "keeper"

// holding is one active durable: it acks what `wants` says, and leaves the rest.
type holding struct {
	l     *load
	d     *durable
	sub   stan.Subscription
	mutex sync.Mutex
	seen  int
	// isLeaving: an ack sent behind the request to close would be for nobody.
	isLeaving bool
}

// hold subscribes. The answer promises that the durable exists from now on.
func (l *load) hold(c *client, d *durable, wants func(uint64) bool) (*holding, error) {
	h := &holding{l: l, d: d}
	handle := func(m *stan.Msg) {
		h.mutex.Lock()
		defer h.mutex.Unlock()
		h.seen++
		if !h.isLeaving && wants(m.Sequence) {
			sent := l.clock()
			if m.Ack() == nil {
				l.book.mutex.Lock()
				d.Acks = append(d.Acks, markedAck{Sequence: m.Sequence, Sent: sent})
				l.book.mutex.Unlock()
			}
		}
	}
	sub, err := subscribeDurable(c, d, handle)
	if err != nil {
		return nil, err
	}
	h.sub = sub
	l.book.mutex.Lock()
	defer l.book.mutex.Unlock()
	if d.Created == 0 {
		d.Created = l.clock()
		l.book.Durables = append(l.book.Durables, d)
	}
	return h, nil
}

// subscribeDurable is the same for those who make a durable and those who check it.
func subscribeDurable(c *client, d *durable, handle stan.MsgHandler) (stan.Subscription, error) {
	options := []stan.SubscriptionOption{stan.DurableName(d.Name), stan.SetManualAckMode(), stan.DeliverAllAvailable(),
		stan.MaxInflight(10_000), stan.AckWait(time.Minute)}
	if d.Group != "" {
		return c.QueueSubscribe(d.Channel, d.Group, handle, options...)
	}
	return c.Subscribe(d.Channel, handle, options...)
}

// await waits until so many messages came since this subscription began.
func (h *holding) await(count int) error {
	err := eventually(patience, func() bool {
		h.mutex.Lock()
		defer h.mutex.Unlock()
		return h.seen >= count
	})
	if err != nil {
		return fmt.Errorf("durable %s: %d messages did not come: %w", h.d.Name, count, err)
	}
	return nil
}

// settled is called when the server has answered behind the acks.
func (h *holding) settled() {
	at := h.l.clock()
	h.l.book.mutex.Lock()
	defer h.l.book.mutex.Unlock()
	for n := range h.d.Acks {
		if h.d.Acks[n].Settled == 0 {
			h.d.Acks[n].Settled = at
		}
	}
}

// close promises that what was acked before is on disk: the server takes both over one connection.
func (h *holding) close() error {
	h.mutex.Lock()
	h.isLeaving = true
	h.mutex.Unlock()
	if err := h.sub.Close(); err != nil {
		return err
	}
	h.settled()
	return nil
}

func (h *holding) unsubscribe() error {
	h.d.Removing = max(h.l.clock(), 1)
	if err := h.sub.Unsubscribe(); err != nil {
		return err
	}
	h.d.Removed = max(h.l.clock(), 1)
	return nil
}

// durables goes through the life of four of them, whose names end with suffix.
func (l *load) durables(suffix string) error {
	c, err := l.server.connect(keeper)
	if err != nil {
		return err
	}
	defer c.nc.Close() // without a goodbye: its durables stay active, as those of a client that dies
	return firstError(
		func() error { return l.closeAndResume(c, suffix) },
		func() error { return l.removeOne(c, suffix) },
		func() error { return l.leaveActive(c, suffix) })
}

// closeAndResume leaves every third message unacked: a durable is more than one number.
func (l *load) closeAndResume(c *client, suffix string) error {
	d := &durable{Channel: "orders", Name: "resumed" + suffix}
	for round := range 3 {
		h, err := l.hold(c, d, func(sequence uint64) bool { return sequence%3 != 0 && sequence <= uint64(20*(round+1)) })
		if err != nil {
			return err
		}
		if err := h.await(15); err != nil {
			return err
		}
		if err := h.close(); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) removeOne(c *client, suffix string) error {
	h, err := l.hold(c, &durable{Channel: "orders", Name: "removed" + suffix}, func(uint64) bool { return true })
	if err != nil {
		return err
	}
	if err := h.await(10); err != nil {
		return err
	}
	return h.unsubscribe()
}

// leaveActive has one durable and one durable group that are never closed: their acks are on disk when a message is that
// was published behind them.
func (l *load) leaveActive(c *client, suffix string) error {
	all := func(uint64) bool { return true }
	alone, err := l.hold(c, &durable{Channel: "orders", Name: "active" + suffix}, all)
	if err != nil {
		return err
	}
	group, err := l.hold(c, &durable{Channel: "orders", Name: "shared" + suffix, Group: "group" + suffix}, all)
	if err != nil {
		return err
	}
	if err := firstError(func() error { return alone.await(30) }, func() error { return group.await(30) }); err != nil {
		return err
	}
	// What was acked until now only: later acks are still on their way.
	before := l.now(alone, group)
	if err := c.nc.FlushTimeout(patience); err != nil {
		return err
	}
	// The server has these acks, and logs them with the first batch that is sealed after its wait, if not before.
	time.Sleep(2 * ackLogTime)
	if err := l.publish(flow{channel: "orders", publisher: "behind" + suffix, size: 100, window: 1, count: 1}); err != nil {
		return err
	}
	at := l.clock()
	l.book.mutex.Lock()
	defer l.book.mutex.Unlock()
	for _, d := range []*durable{alone.d, group.d} {
		for n := range d.Acks {
			if d.Acks[n].Sent < before {
				d.Acks[n].Settled = at
			}
		}
	}
	return nil
}

// now is the clock while none of them is about to ack.
func (l *load) now(held ...*holding) int {
	for _, h := range held {
		h.mutex.Lock()
		defer h.mutex.Unlock()
	}
	return l.clock()
}

// firstError runs steps up to the first that fails.
func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
