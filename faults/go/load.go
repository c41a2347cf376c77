// Clients that put load on the server and write down what they were promised.
package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/stan.go"
)

// ackLogTime is how long the server lets a durable's ack wait for others before it logs them.
const ackLogTime = 10 * time.Millisecond

// load is one server, its clients, and the ledger. clock tells the position of the disk's log.
type load struct {
	server  *server
	book    *book
	clock   func() int
	mark    func(string)
	clients atomic.Int64
	// isDying is set before the server is killed: from then on connections may fail.
	isDying atomic.Bool
	counts  sync.Map // publisher -> *atomic.Int64, the number of its last message
}

// newLoad is for a server on a disk that is played by whoever listens on the socket.
func newLoad(dir, socket string) (*load, *control, error) {
	disk, err := openControl(socket)
	if err != nil {
		return nil, nil, err
	}
	return &load{server: newServer(dir), book: &book{}, clock: disk.position, mark: disk.mark}, disk, nil
}

// flow is one publisher: so many messages of one size to one channel, or until stop, at most window of them unacked.
type flow struct {
	channel, publisher string
	size, window       int
	count              int
	stop               <-chan struct{}
	pause              time.Duration
}

// connect is under an id that no other connection ever has.
func (l *load) connect() (*client, error) {
	return l.server.connect(fmt.Sprintf("client-%d", l.clients.Add(1)))
}

func (l *load) next(publisher string) int {
	counter, _ := l.counts.LoadOrStore(publisher, &atomic.Int64{})
	return int(counter.(*atomic.Int64).Add(1))
}

// publish runs one flow. The server may die under it: what is not acked then stays so in the ledger.
func (l *load) publish(f flow) error {
	c, err := l.connect()
	if err != nil && l.isDying.Load() {
		return nil
	}
	if err != nil {
		return err
	}
	defer c.leave()
	window := make(chan struct{}, f.window)
	var refused atomic.Value
	for n := 0; f.count == 0 || n < f.count; n++ {
		select {
		case <-f.stop:
			return l.drain(c, window)
		case window <- struct{}{}:
		case <-time.After(patience):
			return errors.New("no acks for too long")
		}
		m := &message{Channel: f.channel, Publisher: f.publisher, N: l.next(f.publisher), Size: f.size, Began: l.clock()}
		l.book.begin(m)
		_, err := c.PublishAsync(f.channel, m.payload(), func(_ string, err error) {
			if err == nil {
				l.book.acked(m, l.clock())
			} else {
				refused.Store(err)
			}
			<-window
		})
		if err != nil || !c.nc.IsConnected() {
			return nil
		}
		time.Sleep(f.pause)
	}
	if err := l.drain(c, window); err != nil {
		return err
	}
	err, _ = refused.Load().(error)
	return err
}

// drain waits for the acks of what is on its way, or for the server's end.
func (l *load) drain(c *client, window chan struct{}) error {
	return eventually(patience, func() bool { return len(window) == 0 || !c.nc.IsConnected() })
}

// watch writes down which message each sequence of a channel has, until the server dies or the client leaves.
func (l *load) watch(channel string) (leave func(), err error) {
	c, err := l.connect()
	if err != nil {
		return nil, err
	}
	_, err = c.Subscribe(channel, func(m *stan.Msg) {
		found, err := parseMessage(m.Data)
		name := "unreadable"
		if err == nil {
			name = found.name()
		}
		l.book.saw(sighting{channel, m.Sequence, name, l.clock()})
	}, stan.DeliverAllAvailable())
	return c.leave, err
}

// kill ends the server under its clients.
func (l *load) kill() {
	l.isDying.Store(true)
	l.server.kill()
}

// start is for the first time and after a kill.
func (l *load) start() error {
	l.isDying.Store(false)
	return l.server.start()
}

// stop is a clean one.
func (l *load) stop() error {
	l.isDying.Store(true)
	return l.server.stop()
}

// publishAll runs flows beside each other.
func (l *load) publishAll(flows ...flow) error {
	results := make(chan error, len(flows))
	for _, f := range flows {
		go func() { results <- l.publish(f) }()
	}
	var all []error
	for range flows {
		all = append(all, <-results)
	}
	return errors.Join(all...)
}

// publishFor runs endless flows for a while.
func (l *load) publishFor(while time.Duration, flows ...flow) error {
	stop := make(chan struct{})
	time.AfterFunc(while, func() { close(stop) })
	for n := range flows {
		flows[n].stop = stop
	}
	return l.publishAll(flows...)
}

// mixed is publishers as applications have them: some wait for each ack, some have many messages on their way.
func mixed(round int) []flow {
	flows := []flow{}
	for n := range 4 {
		channel := fmt.Sprintf("channel-%d", n)
		flows = append(flows,
			flow{channel: channel, publisher: fmt.Sprintf("one-%d-%d", round, n), size: 100, window: 1, pause: 3 * time.Millisecond},
			flow{channel: channel, publisher: fmt.Sprintf("many-%d-%d", round, n), size: 300, window: 16, pause: time.Millisecond})
	}
	return append(flows, flow{channel: "orders", publisher: fmt.Sprintf("orders-%d", round), size: 64, window: 1, pause: 5 * time.Millisecond})
}
