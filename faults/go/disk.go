// A disk that fails under the real server: what publishers, subscribers and operators see. Each check is one line.
package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/stan.go"
)

const (
	// answerMax is the longest that a publisher may wait for an error.
	answerMax = time.Second
	// resumeMax is the longest until a server takes messages again when the disk does.
	resumeMax = 2 * time.Second
	// historySize is the messages that a subscription has yet to get when the disk fails.
	historySize = 600
)

// trial is one server on one disk that fails.
type trial struct {
	*load
	fault          string
	disk           *control
	passed, failed int
	got            atomic.Int64
	gate           chan struct{}
	pinger         *client
	history        stan.Subscription
}

// errorCommands are the faults that hit writes under way.
var errorCommands = map[string]string{
	"write-error":  "werr 5 1",
	"write-errors": "werr 5 -1",
	"flush-error":  "ferr 5 1",
	"flush-errors": "ferr 5 -1",
	"short-write":  "short 1",
	"dead":         "dead 1",
}

// runDisk plays one fault. The ledger is for the check of what a restart finds, which is faults/run's part.
func runDisk(fault, dir, socket, ledger string) error {
	l, disk, err := newLoad(dir, socket)
	if err != nil {
		return err
	}
	defer l.server.kill()
	t := &trial{load: l, fault: fault, disk: disk, gate: make(chan struct{})}
	if err := t.prepare(); err != nil {
		return err
	}
	switch command, isError := errorCommands[fault]; {
	case isError:
		err = t.errors(command)
	case fault == "hang":
		err = t.hang()
	case fault == "full":
		err = t.full(dir)
	case fault == "zombie":
		err = t.zombie()
	default:
		return fmt.Errorf("no fault %q", fault)
	}
	if err != nil {
		return err
	}
	l.kill()
	fmt.Printf("# %s: the server's last lines: %s\n", fault, l.server.logTail())
	fmt.Printf("%d passed, %d failed\n", t.passed, t.failed)
	return l.book.save(ledger)
}

func (t *trial) verdict(isRight bool, name string, found ...any) {
	word := "ok"
	t.passed++
	if !isRight {
		word = "FAIL"
		t.passed--
		t.failed++
	}
	fmt.Printf("%s disk/%s: %s", word, t.fault, name)
	if len(found) > 0 {
		fmt.Printf(": %s", fmt.Sprint(found...))
	}
	fmt.Println()
}

// prepare has a subscription that stands in the middle of its channel when the disk fails.
func (t *trial) prepare() error {
	if err := t.start(); err != nil {
		return err
	}
	if err := t.publishAll(flow{channel: "history", publisher: "history", size: 200, window: 64, count: historySize}); err != nil {
		return err
	}
	c, err := t.connect()
	if err != nil {
		return err
	}
	t.history, err = c.Subscribe("history", func(m *stan.Msg) {
		if t.got.Add(1) > 100 {
			<-t.gate
		}
		m.Ack()
	}, stan.DeliverAllAvailable(), stan.SetManualAckMode(), stan.MaxInflight(20), stan.AckWait(time.Minute))
	if err != nil {
		return err
	}
	t.pinger, err = t.connect()
	return err
}

// errors: a write or flush fails while publishers wait for it.
func (t *trial) errors(command string) error {
	p, err := t.probe(300)
	if err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond)
	armed := time.Now()
	t.disk.do(command)
	refused := eventually(answerMax, func() bool { count, _ := refusals(p.since(armed)); return count > 0 })
	t.verdict(refused == nil, "a publisher gets an error within a second")
	time.Sleep(answerMax)
	outcomes := p.since(armed)
	count, texts := refusals(outcomes)
	t.verdict(slowest(outcomes, armed) <= answerMax+100*time.Millisecond, "no publisher waits longer for its answer", slowest(outcomes, armed))
	t.verdict(count > 0 && clearTexts(texts), "the error says what happened", fmt.Sprintf("%q", keys(texts)))
	t.verdict(t.server.isRunning(), "the server goes on", t.server.logTail())
	t.readsGoOn()
	t.health(http.StatusServiceUnavailable)
	t.newSubscription()
	close(p.stop)
	return nil
}

// readsGoOn: the subscription gets what it has not got yet, and connections answer.
func (t *trial) readsGoOn() {
	close(t.gate)
	err := eventually(5*time.Second, func() bool { return t.got.Load() >= historySize })
	t.verdict(err == nil, "a subscription gets the rest of its channel", fmt.Sprintf("%d of %d", t.got.Load(), historySize))
	took, err := t.pinger.nc.RTT()
	t.verdict(err == nil && took < answerMax, "connections answer", took)
}

// newSubscription is served, or refused: never left alone.
func (t *trial) newSubscription() {
	c, err := t.connect()
	if err != nil {
		t.verdict(strings.Contains(err.Error(), "log") || strings.Contains(err.Error(), "space"), "a new client is refused with an error", err)
		return
	}
	defer c.nc.Close()
	began, got := time.Now(), atomic.Int64{}
	_, err = c.Subscribe("history", func(*stan.Msg) { got.Add(1) }, stan.DeliverAllAvailable())
	if err != nil {
		t.verdict(time.Since(began) <= answerMax && !strings.Contains(err.Error(), "timeout"), "a new subscription is refused with an error", err)
		return
	}
	err = eventually(5*time.Second, func() bool { return got.Load() >= historySize })
	t.verdict(err == nil, "a new subscription reads the channel", got.Load(), " messages")
}

// health: the pages say that messages are not taken.
func (t *trial) health(wanted int) {
	status, page := t.page("/healthz")
	t.verdict(status == wanted, "/healthz says so", status, " ", strings.Join(strings.Fields(page), " "))
}

func (t *trial) page(path string) (status int, body string) {
	visitor := http.Client{Timeout: 5 * time.Second}
	response, err := visitor.Get(fmt.Sprintf("http://127.0.0.1:%d%s", t.server.monitorPort, path))
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	bytes, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(bytes)
}

func keys(texts map[string]int) []string {
	found := []string{}
	for text := range texts {
		found = append(found, text)
	}
	return found
}

// clearTexts: the texts are the server's, not the client's own timeout, and show no path of the server.
func clearTexts(texts map[string]int) bool {
	for text := range texts {
		if strings.Contains(text, "timeout") || strings.Contains(text, "/data/") ||
			strings.Contains(text, "shard-") || strings.Contains(text, "segment-") || len(text) < 10 {
			return false
		}
	}
	return true
}
