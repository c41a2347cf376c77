// Durables after a crash: each is where its acks left it, or further.
package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/stan.go"
)

// tailWait is how long a durable is watched for what it must not send.
const tailWait = 30 * time.Millisecond

// durables resumes, as the client they belong to, those that were promised.
func (a *auditor) durables() error {
	due := []*durable{}
	for _, d := range a.book.Durables {
		if d.Created > 0 && d.Created <= a.position && (d.Removing == 0 || d.Removed > 0 && d.Removed <= a.position) {
			due = append(due, d)
		}
	}
	if len(due) == 0 {
		return nil
	}
	c, err := a.server.connect(keeper)
	if err != nil {
		return fmt.Errorf("%s cannot connect: %w", keeper, err)
	}
	defer c.nc.Close()
	steps := []func() error{}
	for _, d := range due {
		steps = append(steps, func() error { return a.durable(c, d) })
	}
	return beside(steps...)
}

// durable: it sends nothing whose ack is on disk, and all that was never acked, up to the newest message.
func (a *auditor) durable(c *client, d *durable) error {
	last := uint64(0)
	for _, m := range a.book.Messages {
		if m.Channel == d.Channel {
			last++ // an upper bound; the sentinel's sequence is found below
		}
	}
	never, must := map[uint64]bool{}, map[uint64]bool{}
	isRemoved := d.Removed > 0 && d.Removed <= a.position
	for _, ack := range d.Acks {
		if isRemoved {
			break
		}
		must[ack.Sequence] = must[ack.Sequence] || ack.Sent <= a.position
		never[ack.Sequence] = never[ack.Sequence] || ack.Settled > 0 && ack.Settled <= a.position
	}
	var mutex sync.Mutex
	got := map[uint64]string{}
	sub, err := subscribeDurable(c, d, func(m *stan.Msg) {
		mutex.Lock()
		defer mutex.Unlock()
		got[m.Sequence] = "unreadable"
		if found, err := parseMessage(m.Data); err == nil {
			got[m.Sequence] = found.name()
		}
	})
	if err != nil {
		return fmt.Errorf("durable %s cannot be resumed: %w", d.Name, err)
	}
	defer sub.Close()
	missing := func() uint64 {
		mutex.Lock()
		defer mutex.Unlock()
		return firstMissing(got, must, a.sentinelOf(d.Channel))
	}
	if eventually(readWait, func() bool { return missing() == 0 }) != nil {
		return fmt.Errorf("durable %s: message %d, which it never acked, does not come (of %d at most)", d.Name, missing(), last)
	}
	time.Sleep(tailWait)
	mutex.Lock()
	defer mutex.Unlock()
	for sequence := range got {
		if never[sequence] {
			return fmt.Errorf("durable %s: message %d comes again, its ack was on disk", d.Name, sequence)
		}
	}
	return nil
}

func (a *auditor) sentinelOf(channel string) string {
	for at := len(a.book.Messages) - 1; at >= 0; at-- {
		if m := a.book.Messages[at]; m.Channel == channel {
			return m.name()
		}
	}
	return ""
}

// firstMissing is the first message up to the sentinel that did not come though it must; the sentinel's is 0 until it came.
func firstMissing(got map[uint64]string, mayBeAcked map[uint64]bool, sentinel string) uint64 {
	end := uint64(0)
	for sequence, name := range got {
		if name == sentinel {
			end = sequence
		}
	}
	if end == 0 {
		return 1
	}
	for sequence := uint64(1); sequence <= end; sequence++ {
		if got[sequence] == "" && !mayBeAcked[sequence] {
			return sequence
		}
	}
	return 0
}
