// Disks that recover: one that hangs for a while, and one that is full until somebody makes room.
package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// hangTime is how long the disk answers nothing.
const hangTime = 4 * time.Second

// hang: nothing is acked, nothing is refused that may still be written, and all else goes on.
func (t *trial) hang() error {
	p, err := t.probe(300)
	if err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond)
	t.disk.do("hang 1")
	time.Sleep(50 * time.Millisecond) // what the disk had taken already is answered
	hung := time.Now()
	time.Sleep(hangTime)
	t.verdict(p.ackedSince(hung) == 0, "nothing is acked while the disk hangs", p.ackedSince(hung), " acks")
	t.health(http.StatusServiceUnavailable)
	t.readsGoOn()
	t.disk.do("hang 0")
	released := time.Now()
	took, isBack := awaitAcks(p, released)
	t.verdict(isBack && took <= resumeMax, "publishing goes on within two seconds", took)
	status, _ := t.page("/healthz")
	t.verdict(status == http.StatusOK, "/healthz is well again", status)
	close(p.stop)
	return nil
}

// full: the file system has no room for another segment.
func (t *trial) full(dir string) error {
	ballast := filepath.Join(filepath.Dir(dir), "ballast")
	if err := fill(ballast); err != nil {
		return err
	}
	p, err := t.probe(16 << 10)
	if err != nil {
		return err
	}
	began := time.Now()
	refused := eventually(patience, func() bool { count, _ := refusals(p.since(began)); return count > 0 })
	t.verdict(refused == nil, "publishers are refused when there is no room")
	time.Sleep(2 * time.Second)
	outcomes := p.since(began)
	_, texts := refusals(outcomes)
	t.verdict(slowest(outcomes, began) <= answerMax, "no publisher waits longer than a second for its answer", slowest(outcomes, began))
	t.verdict(clearTexts(texts), "the error says what happened", fmt.Sprintf("%q", keys(texts)))
	before := blocksFree(dir)
	t.readsGoOn()
	t.health(http.StatusServiceUnavailable)
	_, metrics := t.page("/metrics")
	t.verdict(strings.Contains(metrics, "full"), "/metrics knows it", lines(metrics, "full"))
	t.newSubscription()
	t.verdict(blocksFree(dir) >= before-16, "tries for a segment leave no blocks behind", before, " and ", blocksFree(dir), " blocks are free")
	if err := t.roomAgain(p, ballast); err != nil {
		return err
	}
	return t.startsFull(ballast)
}

// startsFull: a server that starts on a full disk tells its clients so, and takes them when there is room.
func (t *trial) startsFull(ballast string) error {
	t.kill()
	if err := fill(ballast); err != nil {
		return err
	}
	t.isDying.Store(false)
	if err := t.server.spawn(); err != nil {
		return err
	}
	err := eventually(patience, func() bool { status, _ := t.page("/healthz"); return status != 0 })
	t.verdict(err == nil && t.server.isRunning(), "it starts on a full disk", t.server.logTail())
	time.Sleep(answerMax) // until it has tried for a segment
	began := time.Now()
	c, err := t.connect()
	took := time.Since(began)
	if err == nil {
		c.leave()
	}
	t.verdict(took < answerMax && (err == nil || strings.Contains(err.Error(), "space")), "a client is told so within a second", took, " ", err)
	if err := os.Remove(ballast); err != nil {
		return err
	}
	err = eventually(resumeMax, func() bool {
		c, err := t.connect()
		if err == nil {
			c.leave()
		}
		return err == nil
	})
	t.verdict(err == nil, "it takes clients within two seconds when there is room")
	return nil
}

func (t *trial) roomAgain(p *prober, ballast string) error {
	if err := os.Remove(ballast); err != nil {
		return err
	}
	freed := time.Now()
	took, isBack := awaitAcks(p, freed)
	t.verdict(isBack && took <= resumeMax, "publishing resumes by itself within two seconds", took)
	time.Sleep(time.Until(freed.Add(resumeMax)))
	settled := time.Now()
	time.Sleep(time.Second)
	count, texts := refusals(p.since(settled))
	t.verdict(count == 0, "nothing is refused any more", count, keys(texts))
	status, page := t.page("/healthz")
	t.verdict(status == http.StatusOK, "/healthz is well again", status, " ", page)
	close(p.stop)
	return nil
}

// awaitAcks waits for an ack on each channel behind a moment, and tells when the last of them came: what it sees late on
// a busy machine may have come in time.
func awaitAcks(p *prober, moment time.Time) (took time.Duration, isBack bool) {
	eventually(patience, func() bool {
		time.Sleep(20 * time.Millisecond) // looking at all outcomes is work
		took, isBack = p.resumed(moment)
		return isBack
	})
	return took, isBack
}

// fill takes all the room that the file system has.
func fill(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(0)
	for piece := int64(16 << 20); piece >= 4096; {
		if err := syscall.Fallocate(int(file.Fd()), 0, size, piece); err != nil {
			piece /= 2
			continue
		}
		size += piece
	}
	return file.Sync()
}

func blocksFree(dir string) int64 {
	var stat syscall.Statfs_t
	if syscall.Statfs(dir, &stat) != nil {
		return -1
	}
	return int64(stat.Bfree)
}

// lines are those of a page that speak of something.
func lines(page, word string) string {
	found := []string{}
	for line := range strings.Lines(page) {
		if strings.Contains(line, word) && !strings.HasPrefix(line, "#") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return strings.Join(found, " / ")
}
