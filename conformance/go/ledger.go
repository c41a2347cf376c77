// What a channel holds, as seen by its subscribers, to be compared with what was acked.
package main

import (
	"fmt"
	"sync"

	"github.com/nats-io/stan.go"
)

// ackList is the texts that were acked to publishers.
type ackList struct {
	mutex sync.Mutex
	texts []string
}

func (a *ackList) add(text string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.texts = append(a.texts, text)
}

func (a *ackList) count() int {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return len(a.texts)
}

type entry struct {
	text      string
	timestamp int64
}

// ledger maps sequences to messages. A sequence seen with two messages is kept as a conflict.
type ledger struct {
	mutex     sync.Mutex
	entries   map[uint64]entry
	lastSeen  uint64
	conflicts []string
}

func newLedger() *ledger { return &ledger{entries: map[uint64]entry{}} }

func (l *ledger) add(m *stan.Msg) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	now := entry{string(m.Data), m.Timestamp}
	if before, seen := l.entries[m.Sequence]; seen && before != now {
		l.conflicts = append(l.conflicts, fmt.Sprintf("%d was %v, is %v", m.Sequence, before, now))
	}
	l.entries[m.Sequence] = now
	l.lastSeen = max(l.lastSeen, m.Sequence)
}

func (l *ledger) count() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return len(l.entries)
}

func (l *ledger) last() uint64 {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.lastSeen
}

func (l *ledger) text(sequence uint64) string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.entries[sequence].text
}

// expectAll checks that every acked text is in the ledger.
func (l *ledger) expectAll(acked *ackList) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	there := map[string]bool{}
	for _, e := range l.entries {
		there[e.text] = true
	}
	lost := []string{}
	for _, text := range acked.texts {
		if !there[text] {
			lost = append(lost, text)
		}
	}
	if len(lost) > 0 {
		fail("%d of %d acked messages are lost, %s first", len(lost), len(acked.texts), lost[0])
	}
	if len(acked.texts) == 0 {
		fail("nothing was acked")
	}
}

// expectSame checks that what both have seen is the same.
func (l *ledger) expectSame(other *ledger) {
	for _, some := range []*ledger{l, other} {
		if len(some.conflicts) > 0 {
			fail("a sequence changed: %s", some.conflicts[0])
		}
	}
	if len(l.entries) != len(other.entries) {
		fail("%d messages against %d", len(l.entries), len(other.entries))
	}
	for sequence, e := range l.entries {
		if other.entries[sequence] != e {
			fail("%d was %v, is %v", sequence, e, other.entries[sequence])
		}
	}
}

// readAll reads a channel from its first to its last message and checks that there is no hole.
func readAll(s *server, channel string) *ledger {
	c := s.connect("auditor")
	defer c.leave()
	var newest sink
	c.subscribe(channel, newest.add, stan.StartWithLastReceived())
	newest.wait(1)
	last := newest.all()[0].Sequence
	l := newLedger()
	c.subscribe(channel, l.add, stan.DeliverAllAvailable())
	eventually(fmt.Sprintf("%s is read up to %d", channel, last), func() bool { return l.last() >= last })
	if l.count() != int(last) {
		fail("%d messages under sequences up to %d", l.count(), last)
	}
	return l
}
