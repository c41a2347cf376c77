// Checks a data directory against the ledger: what the server kept of its promises after a crash.
package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/stan.go"
)

// readWait bounds the reading of all channels together: they hold some megabytes.
const readWait = 15 * time.Second

// ever is the position of a check behind all that the ledger knows.
const ever = math.MaxInt

// runCheck is one state of the replayed disk. The server is started once more on every fourth: what recovery itself
// wrote must be as good.
func runCheck(ledger, mount string) error {
	b, err := readBook(ledger)
	if err != nil {
		fmt.Println("#", err)
		os.Exit(125) // no verdict
	}
	position, err := strconv.Atoi(os.Getenv("FAULTS_POSITION"))
	if err != nil {
		fmt.Println("# FAULTS_POSITION is not set")
		os.Exit(125)
	}
	s := newServer(filepath.Join(mount, "data"))
	defer s.kill()
	for round := range 2 {
		if err := s.start(); err != nil {
			return err
		}
		if err := b.check(s, position, fmt.Sprintf("check-%d", round)); err != nil {
			return fmt.Errorf("%w; server: %s", err, s.logTail())
		}
		if position%4 != 0 {
			break
		}
		s.kill()
	}
	s.forgetLog()
	return nil
}

// auditor is the check of one state.
type auditor struct {
	book     *book
	server   *server
	position int
	client   *client
	known    map[string]*message
}

// check publishes one more message to each channel, which must be taken, and reads each channel up to it. The crash was
// at `position`.
func (b *book) check(s *server, position int, sentinel string) error {
	c, err := s.connect("auditor-" + sentinel)
	if err != nil {
		return err
	}
	defer c.leave()
	a := &auditor{book: b, server: s, position: position, client: c, known: map[string]*message{}}
	channels := map[string]bool{}
	for _, m := range b.Messages {
		a.known[m.name()] = m
		channels[m.Channel] = channels[m.Channel] || m.Began <= position
	}
	steps := []func() error{}
	var mutex sync.Mutex
	for channel, isBegun := range channels {
		if !isBegun {
			continue
		}
		m := &message{Channel: channel, Publisher: sentinel, N: 1, Size: 40}
		mutex.Lock()
		a.known[m.name()] = m
		mutex.Unlock()
		if err := c.Publish(channel, m.payload()); err != nil {
			return fmt.Errorf("%s takes no message: %w", channel, err)
		}
		m.Acked = max(1, min(position, ever-1))
		b.Messages = append(b.Messages, m)
		steps = append(steps, func() error { return a.channel(channel, m.name()) })
	}
	return beside(append(steps, a.durables)...)
}

// beside runs steps side by side.
func beside(steps ...func() error) error {
	results := make(chan error, len(steps))
	for _, step := range steps {
		go func() { results <- step() }()
	}
	var all []error
	for range steps {
		all = append(all, <-results)
	}
	return errors.Join(all...)
}

// read collects a channel from its first message up to the sentinel.
func (a *auditor) read(channel, sentinel string) (first uint64, names []string, err error) {
	done := make(chan error, 1)
	end := func(err error) {
		select {
		case done <- err:
		default:
		}
	}
	sub, err := a.client.Subscribe(channel, func(m *stan.Msg) {
		found, err := parseMessage(m.Data)
		switch {
		case err != nil:
			end(fmt.Errorf("%s, sequence %d: %w", channel, m.Sequence, err))
			return
		case len(names) == 0:
			first = m.Sequence
		case m.Sequence != first+uint64(len(names)):
			end(fmt.Errorf("%s: %d follows %d", channel, m.Sequence, first+uint64(len(names))-1))
			return
		}
		names = append(names, found.name())
		if found.name() == sentinel {
			end(nil)
		}
	}, stan.DeliverAllAvailable(), stan.MaxInflight(4096))
	if err != nil {
		return 0, nil, fmt.Errorf("%s cannot be read: %w", channel, err)
	}
	select {
	case err = <-done:
	case <-time.After(readWait):
		err = fmt.Errorf("%s: not read up to its last message in %v", channel, readWait)
	}
	sub.Close()
	return first, names, err
}

func (a *auditor) channel(channel, sentinel string) error {
	first, names, err := a.read(channel, sentinel)
	if err != nil {
		return err
	}
	return firstError(
		func() error { return a.nothingElse(channel, names) },
		func() error { return a.nothingLost(channel, first, names) },
		func() error { return a.sameSequences(channel, first, names) })
}

// nothingElse: only what was begun before the crash, once, each publisher's in its order and without a gap.
func (a *auditor) nothingElse(channel string, names []string) error {
	last := map[string]int{}
	for _, name := range names {
		m := a.known[name]
		switch {
		case m == nil || m.Channel != channel:
			return fmt.Errorf("%s holds %s, which nobody published there", channel, name)
		case m.Began > a.position:
			return fmt.Errorf("%s holds %s, which was published after the crash", channel, name)
		}
		before, isLater := last[m.Publisher]
		if (isLater || !isLimited(channel)) && !a.mayFollow(m, before) {
			return fmt.Errorf("%s: of %s, %d follows %d", channel, m.Publisher, m.N, before)
		}
		last[m.Publisher] = m.N
	}
	return nil
}

// mayFollow: behind message `before` of the same publisher, with none between them but what was refused.
func (a *auditor) mayFollow(m *message, before int) bool {
	for n := before + 1; n < m.N; n++ {
		between := a.known[(&message{Channel: m.Channel, Publisher: m.Publisher, N: n}).name()]
		if between == nil || !between.Refused {
			return false
		}
	}
	return m.N > before
}

func isLimited(channel string) bool { return channel == "counted" || channel == "sized" }

// nothingLost: all that was acked is there, but for what the channel's limits remove.
func (a *auditor) nothingLost(channel string, first uint64, names []string) error {
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	if isLimited(channel) {
		return a.limits(channel, first, there, names)
	}
	lost, acked := []string{}, 0
	for _, m := range a.book.Messages {
		if m.Channel == channel && m.Acked > 0 && m.Acked <= a.position {
			acked++
			if !there[m.name()] {
				lost = append(lost, m.name())
			}
		}
	}
	if len(lost) > 0 {
		sort.Strings(lost)
		return fmt.Errorf("%s: %d of %d acked messages are lost, %s first", channel, len(lost), acked, lost[0])
	}
	if first != 1 {
		return fmt.Errorf("%s begins at %d", channel, first)
	}
	return nil
}

// limits: the newest messages that fit are there, and no more. Such a channel has one publisher at a time, so messages
// stand in it in the order in which they were begun.
func (a *auditor) limits(channel string, first uint64, there map[string]bool, names []string) error {
	size := 0
	for _, name := range names {
		size += recordSize(a.known[name])
	}
	isOver, isFull := len(names) > countedMax, len(names) == countedMax
	if channel == "sized" {
		isOver, isFull = size > sizedMax, size+retentionSize+recordOverhead > sizedMax
	}
	switch {
	case isOver:
		return fmt.Errorf("%s holds %d messages with %d bytes, more than its limit", channel, len(names), size)
	case first != 1 && !isFull:
		return fmt.Errorf("%s holds only %d messages from %d on: more is gone than its limit removes", channel, len(names), first)
	}
	hasBegun := first == 1
	for _, m := range a.book.Messages {
		hasBegun = hasBegun || m.name() == names[0]
		if hasBegun && m.Channel == channel && m.Acked > 0 && m.Acked <= a.position && !there[m.name()] {
			return fmt.Errorf("%s: %s was acked and is lost", channel, m.name())
		}
	}
	return nil
}

// recordOverhead is what a record takes beside its payload: COMPAT.md, max_bytes.
const recordOverhead = 12

func recordSize(m *message) int { return len(m.payload()) + recordOverhead }

// sameSequences: what a subscriber got before the crash has its sequence still.
func (a *auditor) sameSequences(channel string, first uint64, names []string) error {
	for _, s := range a.book.Sightings {
		if s.Channel != channel || s.At > a.position || s.Sequence < first {
			continue
		}
		at := s.Sequence - first
		if at >= uint64(len(names)) || names[at] != s.Name {
			return fmt.Errorf("%s: sequence %d was %s and is another", channel, s.Sequence, s.Name)
		}
	}
	return nil
}
