// Pattern: process each message exactly once, by its sequence, in a file of the client's own.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/stan.go"
)

const onceChannel = "once"

// processor appends each message that it processes to a file and so knows the last one, over any
// restart of its own. It takes messages in sequence only: what it has had it acks again, what comes
// too early it leaves to the ack wait.
type processor struct {
	*server
	mutex         sync.Mutex
	file          string
	lastProcessed uint64
	client        *client
}

// restart drops the connection as a killed process would and begins anew from the file.
func (p *processor) restart() {
	if p.client != nil {
		p.client.cut()
	}
	p.mutex.Lock()
	lines := p.lines()
	p.lastProcessed = 0
	if len(lines) > 0 {
		fmt.Sscanf(lines[len(lines)-1], "%d", &p.lastProcessed)
	}
	p.mutex.Unlock()
	eventually("the processor subscribes", func() bool {
		c := p.connectSoon("processor")
		_, err := c.Subscribe(onceChannel, func(m *stan.Msg) { p.process(c, m) }, stan.DurableName("mark"),
			stan.DeliverAllAvailable(), stan.SetManualAckMode(), stan.AckWait(ackWait), stan.MaxInflight(64))
		if err != nil {
			c.cut()
			return false
		}
		p.client = c
		return true
	})
}

func (p *processor) lines() []string {
	data, err := os.ReadFile(p.file)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func (p *processor) process(c *client, m *stan.Msg) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if c.nc.IsClosed() || m.Sequence > p.lastProcessed+1 {
		return
	}
	if m.Sequence == p.lastProcessed+1 {
		file, err := os.OpenFile(p.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return
		}
		fmt.Fprintf(file, "%d %s\n", m.Sequence, m.Data)
		file.Close()
		p.lastProcessed = m.Sequence
	}
	m.Ack()
}

func (p *processor) last() uint64 {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.lastProcessed
}

// once kills the server and restarts the processor at random moments while publishers go on.
func once(t *suite, s *server, seed uint64) {
	const kills, publishers = 5, 8
	random := rand.New(rand.NewPCG(seed, 2))
	p := &processor{server: s, file: filepath.Join(s.dir, "processed")}
	seen, acked := newLedger(), &ackList{}
	history := newLedger()
	t.checkBeyondReference(fmt.Sprintf("%d kills of the server, as many restarts of the client, publishing goes on", kills), func() {
		observer := s.connect("observer")
		observer.subscribe(onceChannel, seen.add, stan.DeliverAllAvailable(), stan.AckWait(ackWait))
		p.restart()
		stop := startPublishers(s, onceChannel, publishers, acked)
		for range kills {
			waitMore(acked, 50)
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			s.kill()
			if random.IntN(2) == 0 {
				p.client.cut()
			}
			s.start()
			waitMore(acked, 50)
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			p.restart()
		}
		must(stop())
		history = readAll(s, onceChannel)
		eventually("the processor is through", func() bool { return p.last() == history.last() })
		eventually("the observer has it all", func() bool { return seen.count() == history.count() })
		observer.cut()
		p.client.cut()
	})
	t.checkBeyondReference("each message was processed once, in sequence", func() {
		lines := p.lines()
		for n, line := range lines {
			if expected := fmt.Sprintf("%d %s", n+1, history.text(uint64(n+1))); line != expected {
				fail("line %d is %q, expected %q", n+1, line, expected)
			}
		}
		if len(lines) != int(history.last()) || len(lines) == 0 {
			fail("%d processed of %d", len(lines), history.last())
		}
	})
	t.checkBeyondReference("all that was acked to the publishers is there", func() { history.expectAll(acked) })
	t.checkBeyondReference("sequences keep their messages, after one more kill too", func() {
		seen.expectSame(history)
		s.crash()
		history.expectSame(readAll(s, onceChannel))
		c := s.connect("next")
		must(c.Publish(onceChannel, []byte("the next")))
		c.leave()
		after := readAll(s, onceChannel)
		if after.last() != history.last()+1 || after.text(after.last()) != "the next" {
			fail("the next sequence after %d is %d", history.last(), after.last())
		}
	})
}

// startPublishers publishes numbered messages until it is told to stop; what is not acked in time
// is published again.
func startPublishers(s *server, channel string, count int, acked *ackList) (stop func() error) {
	var stopping atomic.Bool
	c := s.connect("publisher-"+channel, stan.PubAckWait(time.Second))
	results := make(chan error, count)
	for publisher := range count {
		go func() {
			for n := 0; !stopping.Load(); n++ {
				text := fmt.Sprintf("%s-%d-%d", channel, publisher, n)
				if err := c.publishUntilAcked(channel, text); err != nil {
					results <- err
					return
				}
				acked.add(text)
			}
			results <- nil
		}()
	}
	return func() error {
		stopping.Store(true)
		var failed error
		for range count {
			if err := <-results; err != nil {
				failed = err
			}
		}
		c.leave()
		return failed
	}
}

// waitMore waits until some more messages were acked.
func waitMore(acked *ackList, more int) {
	target := acked.count() + more
	eventually(fmt.Sprintf("%d more messages are acked", more), func() bool { return acked.count() >= target })
}
