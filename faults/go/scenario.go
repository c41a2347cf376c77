// What the server goes through on the logged disk, phase by phase.
package main

import (
	"errors"
	"fmt"
	"time"
)

// runLoad runs one scenario and saves its ledger. Each phase begins with a mark in the disk's log.
func runLoad(scenario, dir, socket, ledger string) error {
	l, _, err := newLoad(dir, socket)
	if err != nil {
		return err
	}
	defer l.server.kill()
	phases, known := map[string]func() error{"life": l.life, "space": l.space}[scenario]
	if !known {
		return fmt.Errorf("no scenario %q: life, space", scenario)
	}
	if err := phases(); err != nil {
		return fmt.Errorf("%s: %w; server: %s", scenario, err, l.server.logTail())
	}
	l.mark("end")
	fmt.Printf("# %s: %d messages acked, %d deliveries, %d durables in the ledger\n",
		scenario, l.book.ackedCount(), len(l.book.Sightings), len(l.book.Durables))
	return l.book.save(ledger)
}

// life is a server's first second, durables that come and go, clean stops, a kill, and what starts behind them.
func (l *load) life() error {
	l.mark("fresh")
	if err := l.start(); err != nil {
		return err
	}
	if err := l.watched(time.Second, 1); err != nil {
		return err
	}
	l.mark("durables")
	if err := l.together(func() error { return l.durables("") }, mixed(2)[8:]...); err != nil {
		return err
	}
	l.mark("stop")
	if err := l.watched(100*time.Millisecond, 3); err != nil {
		return err
	}
	if err := l.stop(); err != nil {
		return err
	}
	l.mark("restart")
	if err := l.start(); err != nil {
		return err
	}
	if err := l.killedUnderLoad(4); err != nil {
		return err
	}
	l.mark("recovery")
	if err := l.start(); err != nil {
		return err
	}
	if err := l.watched(300*time.Millisecond, 5); err != nil {
		return err
	}
	return l.stop()
}

// retentionSize is that of messages to channels with limits.
const retentionSize = 24 << 10

// space rolls segments, and removes messages by both limits until the files of dead segments are used again.
func (l *load) space() error {
	l.mark("roll")
	if err := l.start(); err != nil {
		return err
	}
	leave, err := l.watch("large")
	if err != nil {
		return err
	}
	defer leave()
	small := mixed(1)[:2]
	for n := range small {
		small[n].count, small[n].pause = 150, 0
	}
	large := flow{channel: "large", publisher: "large", size: 24 << 10, window: 4, count: 240}
	if err := l.publishAll(append(small, large)...); err != nil {
		return err
	}
	l.mark("retention")
	err = l.publishAll(
		flow{channel: "counted", publisher: "counted", size: retentionSize, window: 4, count: 800},
		flow{channel: "sized", publisher: "sized", size: retentionSize, window: 4, count: 500},
		flow{channel: "channel-3", publisher: "beside", size: 200, window: 1, count: 300})
	return err
}

func (l *load) watched(while time.Duration, round int) error {
	leave, err := l.watch("channel-0")
	if err != nil {
		return err
	}
	defer leave()
	return l.publishFor(while, mixed(round)...)
}

func (l *load) killedUnderLoad(round int) error {
	result := make(chan error, 1)
	go func() { result <- l.publishFor(patience, mixed(round)...) }()
	time.Sleep(400 * time.Millisecond)
	l.mark("kill")
	l.kill()
	return <-result
}

// together runs work while flows go on.
func (l *load) together(work func() error, flows ...flow) error {
	stop, result := make(chan struct{}), make(chan error, 1)
	for n := range flows {
		flows[n].stop = stop
	}
	go func() { result <- l.publishAll(flows...) }()
	err := work()
	close(stop)
	return errors.Join(err, <-result)
}
