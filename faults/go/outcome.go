// What publishers meet while a disk fails: one message at a time on each channel, with the time that its answer took.
package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// probeChannels is enough for every shard of a default store to have one.
const probeChannels = 24

// outcome is one publish. err is nil if it was acked; answered is zero while nobody knows.
type outcome struct {
	channel        string
	sent, answered time.Time
	err            error
}

// prober publishes until it is stopped.
type prober struct {
	mutex    sync.Mutex
	outcomes []*outcome
	stop     chan struct{}
	ended    sync.WaitGroup
}

// probe starts publishers on all channels, one message of each on its way at any time.
func (l *load) probe(size int) (*prober, error) {
	p := &prober{stop: make(chan struct{})}
	c, err := l.connect()
	if err != nil {
		return nil, err
	}
	for n := range probeChannels {
		p.ended.Add(1)
		go func() {
			defer p.ended.Done()
			l.probeChannel(p, c, fmt.Sprintf("probe-%d", n), size)
		}()
	}
	go func() {
		p.ended.Wait()
		c.nc.Close()
	}()
	return p, nil
}

func (l *load) probeChannel(p *prober, c *client, channel string, size int) {
	for {
		m := &message{Channel: channel, Publisher: "probe", N: l.next(channel), Size: size, Began: l.clock()}
		l.book.begin(m)
		o := &outcome{channel: channel, sent: time.Now()}
		p.mutex.Lock()
		p.outcomes = append(p.outcomes, o)
		p.mutex.Unlock()
		done := make(chan struct{})
		_, err := c.PublishAsync(channel, m.payload(), func(_ string, err error) {
			if err == nil {
				l.book.acked(m, l.clock())
			} else {
				l.book.refused(m)
			}
			p.answer(o, err)
			close(done)
		})
		if err != nil {
			p.answer(o, err)
			return
		}
		select {
		case <-p.stop:
			return
		case <-done:
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (p *prober) answer(o *outcome, err error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	o.answered, o.err = time.Now(), err
}

// since are the publishes that were sent or answered behind a moment, and those that nobody answered.
func (p *prober) since(moment time.Time) []outcome {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	found := []outcome{}
	for _, o := range p.outcomes {
		if o.answered.IsZero() || o.answered.After(moment) {
			found = append(found, *o)
		}
	}
	return found
}

// slowest is the longest time that an answer has taken, or takes by now.
func slowest(outcomes []outcome, since time.Time) time.Duration {
	longest := time.Duration(0)
	for _, o := range outcomes {
		from, to := o.sent, o.answered
		if since.After(from) {
			from = since
		}
		if to.IsZero() {
			to = time.Now()
		}
		longest = max(longest, to.Sub(from))
	}
	return longest
}

// refusals counts the errors by their text.
func refusals(outcomes []outcome) (count int, texts map[string]int) {
	texts = map[string]int{}
	for _, o := range outcomes {
		if o.err != nil {
			texts[o.err.Error()]++
			count++
		}
	}
	return count, texts
}

// ackedSince counts the acks behind a moment.
func (p *prober) ackedSince(moment time.Time) int {
	count := 0
	for _, o := range p.since(moment) {
		if !o.answered.IsZero() && o.err == nil {
			count++
		}
	}
	return count
}

// resumed is how long behind a moment the last of all channels had its first ack, of whenever somebody looks; false while
// one has none.
func (p *prober) resumed(moment time.Time) (time.Duration, bool) {
	first := map[string]time.Duration{}
	for _, o := range p.since(moment) {
		if _, known := first[o.channel]; !known && !o.answered.IsZero() && o.err == nil {
			first[o.channel] = o.answered.Sub(moment)
		}
	}
	return slices.Max(append(slices.Collect(maps.Values(first)), 0)), len(first) == probeChannels
}
