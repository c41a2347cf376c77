// A server that is killed while the disk holds its writes back: they land when the next one is there already.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// holdTime is how long each write waits in the disk. A server that waits for those of a dead one says so each second.
	holdTime = 5 * time.Second
	// zombieChannels have a write each on its way when the server dies. Of more than 12 the kernel keeps some back, and the
	// next server's behind them.
	zombieChannels = 4
	// sendTime is for a message's way to the disk.
	sendTime = 100 * time.Millisecond
	// restTime without a write is a disk at rest.
	restTime = 500 * time.Millisecond
)

// zombie: the writes of the dead server land behind its kill; the next one waits for them, so that none lands over what it
// writes. A server that does not wait is told by its silence: it begins a new segment, so that only footers were seen
// to be overwritten, now and then.
func (t *trial) zombie() error {
	if err := t.secondServer(); err != nil {
		return err
	}
	if err := t.publishAll(t.zombieFlows("before", 200)...); err != nil {
		return err
	}
	heldBack, err := t.holdWrites()
	if err != nil {
		return err
	}
	t.kill()
	killed := time.Now()
	t.disk.do("wms 0") // for what comes now; those that wait go on waiting
	err = t.start()
	t.verdict(err == nil && heldBack, "it starts behind a kill with writes on their way", time.Since(killed).Round(time.Millisecond), " ", err)
	said := t.server.logTail()
	t.verdict(strings.Contains(said, "waiting for"), "and waits for the writes of the dead server, and says so", said)
	// Shorter than those on their way: what lands over them would be seen.
	if err := t.publishAll(t.zombieFlows("behind", 50)...); err != nil {
		return err
	}
	time.Sleep(time.Until(killed.Add(holdTime + time.Second)))
	t.kill()
	if err := t.start(); err != nil {
		return err
	}
	err = t.book.check(t.server, ever, "zombie")
	t.verdict(err == nil, "nothing that it acked is overwritten", err)
	t.kill()
	found, err := exec.Command(os.Getenv("SUT"), "verify", t.server.dir).CombinedOutput()
	t.verdict(err == nil, "verify finds all as it was written", err, " ", strings.TrimSpace(string(found)))
	return nil
}

// holdWrites has a message for each channel on its way to the disk, which keeps it back. Tells whether it did.
func (t *trial) holdWrites() (isHeld bool, err error) {
	messages := map[*client]*message{}
	for n := range zombieChannels {
		c, err := t.connect()
		if err != nil {
			return false, err
		}
		messages[c] = &message{Channel: fmt.Sprintf("zombie-%d", n), Publisher: fmt.Sprintf("held-%d", n), N: 1, Size: 3000}
	}
	if err := t.settle(); err != nil {
		return false, err
	}
	t.disk.do(fmt.Sprintf("wms %d", holdTime.Milliseconds()))
	began := t.clock()
	for c, m := range messages {
		m.Began = began
		t.book.begin(m)
		_, err := c.PublishAsync(m.Channel, m.payload(), func(_ string, err error) {
			if err == nil {
				t.book.acked(m, t.clock())
			}
		})
		if err != nil {
			return false, err
		}
	}
	time.Sleep(sendTime)
	return t.clock() == began, nil
}

// settle waits until nobody writes: what the file system has on its way itself, the next server would wait for anyhow.
func (t *trial) settle() error {
	for last, ends := -1, time.Now().Add(patience); last != t.clock(); {
		if time.Now().After(ends) {
			return errors.New("the disk does not come to rest")
		}
		syscall.Sync()
		last = t.clock()
		time.Sleep(restTime)
	}
	return nil
}

func (t *trial) zombieFlows(publisher string, count int) []flow {
	flows := []flow{}
	for n := range zombieChannels {
		flows = append(flows, flow{channel: fmt.Sprintf("zombie-%d", n), publisher: fmt.Sprintf("%s-%d", publisher, n),
			size: 300, window: 1, count: count})
	}
	return flows
}

// secondServer: one on the same directory goes away, with a clear line.
func (t *trial) secondServer() error {
	second := newServer(t.server.dir)
	second.log = filepath.Join(filepath.Dir(second.log), "server-second.log")
	if err := second.spawn(); err != nil {
		return err
	}
	defer second.kill()
	select {
	case <-second.process.Exited:
	case <-time.After(patience):
	}
	said := second.logTail()
	t.verdict(!second.isRunning() && second.process.ExitCode == 1 && strings.Contains(said, "in use"),
		"a second server on the same directory is refused", said)
	return nil
}
