// Crashes on the strict file system: it has no log, so each state is a run of its own. Every second run goes on with the
// data of the one before.
package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
)

// lossyModes are what a crash may leave of what was not synced.
var lossyModes = []string{"drop", "all", "subset", "torn"}

// runLossy does so many rounds, of a seed; none begins later than after so many seconds.
func runLossy(mount, socket string, numbers []string) error {
	rounds, errRounds := strconv.Atoi(numbers[0])
	seed, errSeed := strconv.ParseUint(numbers[1], 10, 64)
	seconds, errSeconds := strconv.Atoi(numbers[2])
	if err := errors.Join(errRounds, errSeed, errSeconds); err != nil {
		return err
	}
	deadline := time.Now().Add(time.Duration(seconds) * time.Second)
	disk, err := openControl(socket)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 7))
	passed, failed := 0, 0
	var l *load
	for round := range rounds {
		if time.Now().After(deadline) {
			break
		}
		if l == nil || random.IntN(2) == 0 {
			if l != nil {
				os.RemoveAll(l.server.dir) // all of it is in memory, and kept until the next crash
			}
			data := filepath.Join(mount, fmt.Sprintf("data-%d", round))
			var now atomic.Int64
			clock := func() int { return int(now.Add(1)) } // there is no log: only the order counts
			l = &load{server: newServer(data), book: &book{}, clock: clock}
		}
		mode := lossyModes[round%len(lossyModes)]
		if err := l.crashOnce(disk, mode, round, random); err != nil {
			failed++
			fmt.Printf("FAIL lossyfs round %d %s: %v\n", round, mode, err)
			l = nil
		} else {
			passed++
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return fmt.Errorf("seed %d", seed)
	}
	return nil
}

// crashOnce runs the server for a while, cuts power, and checks what is left.
func (l *load) crashOnce(disk *control, mode string, round int, random *rand.Rand) error {
	defer l.server.kill()
	if random.IntN(4) == 0 {
		// Dead before anybody could connect.
		if err := l.server.spawn(); err != nil {
			return err
		}
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
	} else if err := l.runUntilKilled(round, random); err != nil {
		return err
	}
	l.kill()
	disk.do(fmt.Sprintf("crash %s %d", mode, random.Uint32()))
	if err := l.start(); err != nil {
		return err
	}
	if err := l.book.check(l.server, ever, fmt.Sprintf("check-%d", round)); err != nil {
		return fmt.Errorf("%w; server: %s", err, l.server.logTail())
	}
	return nil
}

// runUntilKilled is a load that ends with the server: by a kill, or by a clean stop.
func (l *load) runUntilKilled(round int, random *rand.Rand) error {
	if err := l.start(); err != nil {
		return err
	}
	flows := mixed(round)
	if random.IntN(3) == 0 {
		// Enough to leave the first segment behind.
		flows = append(flows, flow{channel: "large", publisher: fmt.Sprintf("large-%d", round), size: 24 << 10, window: 4},
			flow{channel: "counted", publisher: fmt.Sprintf("counted-%d", round), size: 24 << 10, window: 4})
	}
	result := make(chan error, 1)
	go func() { result <- l.publishFor(patience, flows...) }()
	if random.IntN(3) == 0 {
		if err := l.durables(fmt.Sprint("-", round)); err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
	if random.IntN(4) == 0 {
		if err := l.stop(); err != nil {
			return err
		}
	}
	l.kill()
	return <-result
}
