// Kills under load: publishers and durable subscribers on several channels go on while the server
// is killed again and again. Nothing acked may be lost.
package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/stan.go"
)

// killsACheck is how many kills one check has time for, on a busy machine too.
const killsACheck = 10

func kill(t *suite, s *server, kills int, seed uint64) {
	const channels, publishers = 4, 16
	random := rand.New(rand.NewPCG(seed, 3))
	acked, seen, stops := make([]*ackList, channels), make([]*ledger, channels), make([]func() error, channels)
	name := func(n int) string { return fmt.Sprintf("load-%d", n) }
	t.checkBeyondReference("publishers and durables on some channels", func() {
		for n := range channels {
			acked[n], seen[n] = &ackList{}, newLedger()
			s.connect(name(n)).subscribe(name(n), seen[n].add, stan.DurableName("mark"), stan.AckWait(ackWait))
			stops[n] = startPublishers(s, name(n), publishers, acked[n])
		}
	})
	failedBefore := t.failed
	killed := 0
	for killed < kills && t.failed == failedBefore {
		last := min(killed+killsACheck, kills)
		t.checkBeyondReference(fmt.Sprintf("kills %d to %d at random moments under load", killed+1, last), func() {
			for ; killed < last; killed++ {
				waitMore(acked[random.IntN(channels)], 100)
				time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
				s.crash()
			}
		})
	}
	t.checkBeyondReference("the publishers end, and each message was acked", func() {
		for _, stop := range stops {
			must(stop())
		}
	})
	t.checkBeyondReference("nothing acked is lost, no sequence changed, the live durables saw it all", func() {
		s.crash()
		total := 0
		for n := range channels {
			history := readAll(s, name(n))
			history.expectAll(acked[n])
			eventually("the durable has it all", func() bool { return seen[n].count() >= history.count() })
			seen[n].expectSame(history)
			total += acked[n].count()
		}
		fmt.Printf("# %d messages acked over %d kills\n", total, killed)
	})
}
