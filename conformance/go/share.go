// Pattern: share the work among the members of a queue group.
package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/stan.go"
)

// member is a client with one queue subscription.
type member struct {
	*client
	sub stan.Subscription
	got sink
}

// join makes a member that acks what it gets.
func join(s *server, id, channel string, options ...stan.SubscriptionOption) *member {
	m := &member{client: s.connect(id)}
	m.sub = m.queueCollect(channel, "workers", &m.got, options...)
	return m
}

// joinIdle makes a member that acks nothing.
func joinIdle(s *server, id, channel string, options ...stan.SubscriptionOption) *member {
	m := &member{client: s.connect(id)}
	options = append(options, stan.SetManualAckMode(), stan.AckWait(ackWait))
	sub, err := m.QueueSubscribe(channel, "workers", m.got.add, options...)
	must(err)
	m.sub = sub
	return m
}

func share(t *suite, s *server, seed uint64) {
	kinds := []struct {
		name    string
		options []stan.SubscriptionOption
	}{{"queue", nil}, {"durable queue", []stan.SubscriptionOption{stan.DurableName("mark")}}}
	for _, kind := range kinds {
		channel := func(name string) string { return name + "." + kind.name[:5] }
		t.check(kind.name+": each message goes to one member, all take part", func() {
			eachToOne(s, channel("each"), kind.options)
		})
		t.check(kind.name+": a member that dies loses nothing", func() {
			memberDies(s, channel("dies"), kind.options)
		})
		t.check(kind.name+": members leaving and joining lose nothing", func() {
			comeAndGo(s, channel("come"), seed, kind.options)
		})
		t.check(kind.name+": the group goes on over kill -9 of the server", func() {
			groupSurvives(s, channel("survives"), kind.options)
		})
	}
	durable := kinds[1].options
	t.check("a durable queue outlives all its members", func() {
		outlives(s, "outlives", func() {})
	})
	t.check("a durable queue outlives all its members and kill -9", func() {
		outlives(s, "outlives-kill", s.crash)
	})
	t.check("a durable queue whose members all died keeps what they had not acked", func() {
		m := joinIdle(s, "all-die", "all-die", durable...)
		m.publish("all-die", 1, 10)
		m.got.expectRun(1, 10)
		m.cut()
		heir := join(s, "heir", "all-die", durable...)
		waitDistinct(1, 10, &heir.got)
		heir.leave()
	})
	t.check("the last member's leaving ends a queue, its unsubscribe a durable queue", func() {
		for _, kind := range kinds {
			channel := "ends." + kind.name[:5]
			m := join(s, "ends", channel, kind.options...)
			m.publish(channel, 1, 5)
			m.got.expectRun(1, 5)
			leave := m.sub.Close
			if kind.options != nil {
				leave = m.sub.Unsubscribe
			}
			must(leave())
			m.publish(channel, 6, 10)
			m.leave()
			m = join(s, "ends", channel, append(kind.options, stan.StartAtSequence(3))...)
			m.got.expectRun(3, 10)
			m.leave()
		}
	})
}

func eachToOne(s *server, channel string, options []stan.SubscriptionOption) {
	const last = 600
	members := make([]*member, 3)
	for n := range members {
		members[n] = join(s, fmt.Sprint("each-", n), channel, options...)
	}
	members[0].publish(channel, 1, last)
	waitDistinct(1, last, &members[0].got, &members[1].got, &members[2].got)
	total := 0
	for n, m := range members {
		if m.got.count() == 0 {
			fail("member %d received nothing", n)
		}
		total += m.got.count()
		m.leave()
	}
	if total != last {
		fail("%d deliveries of %d messages", total, last)
	}
}

// memberDies cuts off a member that has acked nothing of what it got.
func memberDies(s *server, channel string, options []stan.SubscriptionOption) {
	const last = 40
	dying := joinIdle(s, "dying", channel, options...)
	first := join(s, "first-heir", channel, append(options, stan.AckWait(ackWait))...)
	second := join(s, "second-heir", channel, append(options, stan.AckWait(ackWait))...)
	first.publish(channel, 1, last)
	dying.got.wait(1)
	dying.cut()
	first.publish(channel, last+1, 2*last)
	waitDistinct(1, 2*last, &first.got, &second.got)
	first.leave()
	second.leave()
}

// comeAndGo keeps one member and lets others join and leave while messages are published.
func comeAndGo(s *server, channel string, seed uint64, options []stan.SubscriptionOption) {
	const rounds, perRound = 12, 50
	random := rand.New(rand.NewPCG(seed, 1))
	options = append(options, stan.AckWait(ackWait))
	stays := join(s, "stays", channel, options...)
	present, sinks := []*member{}, []*sink{&stays.got}
	for round := range rounds {
		published := stays.publishing(channel, round*perRound+1, (round+1)*perRound)
		if len(present) == 0 || random.IntN(2) == 0 {
			m := join(s, fmt.Sprint("comes-", round), channel, options...)
			present, sinks = append(present, m), append(sinks, &m.got)
		} else {
			n := random.IntN(len(present))
			present[n].leave()
			present = append(present[:n], present[n+1:]...)
		}
		published()
	}
	waitDistinct(1, rounds*perRound, sinks...)
	for _, m := range append(present, stays) {
		m.leave()
	}
}

func allBeyond(sequence uint64, members []*member) bool {
	for _, m := range members {
		if got := m.got.all(); got[len(got)-1].Sequence <= sequence {
			return false
		}
	}
	return true
}

func groupSurvives(s *server, channel string, options []stan.SubscriptionOption) {
	options = append(options, stan.AckWait(ackWait))
	left := join(s, "left", channel, options...)
	right := join(s, "right", channel, options...)
	left.publish(channel, 1, 100)
	s.crash()
	left.publish(channel, 101, 200)
	waitDistinct(1, 200, &left.got, &right.got)
	// A member whose client reconnects late has its share once it is back.
	members := []*member{left, right}
	for last := uint64(200); !allBeyond(100, members); last += 10 {
		if last > 1200 {
			fail("a member received nothing after the kill")
		}
		left.publish(channel, int(last)+1, int(last)+10)
		time.Sleep(100 * time.Millisecond)
	}
	for _, m := range members {
		m.leave()
	}
}

// outlives lets two members take 1..10 and leave; a newcomer under another client id goes on at 11.
func outlives(s *server, channel string, between func()) {
	durable := stan.DurableName("mark")
	first := join(s, "first", channel, durable)
	second := join(s, "second", channel, durable)
	first.publish(channel, 1, 10)
	waitDistinct(1, 10, &first.got, &second.got)
	for _, m := range []*member{second, first} {
		m.leave()
	}
	between()
	publisher := s.connect("publisher")
	publisher.publish(channel, 11, 20)
	third := join(s, "third", channel, durable)
	third.got.expectRun(11, 20)
	publisher.leave()
	third.leave()
}
