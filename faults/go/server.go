// One server under test, and the clients that talk to it.
package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"weirlog/conformance/sut"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
)

const (
	clusterID = "test-cluster"
	// patience bounds every wait; a pass never comes near it.
	patience = 20 * time.Second
	// ports lie below the ephemeral range, where a stranger's socket could take one while the server is down, and
	// beside those of the conformance suite.
	portFirst, portLast = 17000, 19999
	startTriesMax       = 5
)

// limits of the channels that lose their oldest messages; all others keep everything.
const (
	countedMax = 40
	sizedMax   = 512 << 10
)

const configuration = `streaming {
  store_limits {
    max_channels: 0, max_msgs: 0, max_bytes: 0
    channels {
      "counted": { max_msgs: %d }
      "sized": { max_bytes: %d }
    }
  }
}
`

type server struct {
	port, monitorPort int
	dir, log          string
	process           *sut.Process
}

// newServer is for a data directory that need not exist. Its log goes beside other results, not onto the disk that fails.
func newServer(dir string) *server {
	return &server{dir: dir, log: filepath.Join(os.Getenv("FAULTS_WORK"), fmt.Sprintf("server-%d.log", os.Getpid()))}
}

func freePort() int { return sut.FreePort(portFirst, portLast) }

// start returns when a STAN client can connect. No flag makes a damaged store open that would not open without.
func (s *server) start() error {
	var err error
	for range startTriesMax {
		// A port may have been taken since it was found free.
		if err = s.startOnce(); err == nil || !strings.Contains(s.logTail(), "address in use") && !strings.Contains(s.logTail(), "address already in use") {
			return err
		}
	}
	return err
}

func (s *server) startOnce() error {
	if err := s.spawn(); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case <-s.process.Exited:
			return fmt.Errorf("the server exited with %d at the start: %s", s.process.ExitCode, s.logTail())
		case <-time.After(2 * time.Millisecond):
		}
		c, err := s.connect(fmt.Sprintf("ready-%d", rand.Uint32()))
		if err == nil {
			c.leave()
			return nil
		}
	}
	return fmt.Errorf("the server is not ready after %v, its threads wait in %s: %s", patience, s.waits(), s.logTail())
}

// waits is where the kernel holds each thread: a server that hangs is not there any more when somebody looks.
func (s *server) waits() string {
	places, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", s.process.Pid))
	found := []string{}
	for _, place := range places {
		channel, _ := os.ReadFile(place)
		found = append(found, string(channel))
	}
	return strings.Join(found, ", ")
}

// forgetLog is for a run that went well.
func (s *server) forgetLog() {
	os.Remove(s.log)
	os.Remove(s.log + ".conf")
}

// spawn runs the process and returns at once.
func (s *server) spawn() error {
	s.port, s.monitorPort = freePort(), freePort()
	settings := s.log + ".conf"
	if err := os.WriteFile(settings, fmt.Appendf(nil, configuration, countedMax, sizedMax), 0o644); err != nil {
		return err
	}
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-p", fmt.Sprint(s.port), "-a", "127.0.0.1", "-m", fmt.Sprint(s.monitorPort), "-cid", clusterID,
		"--store", "file", "--dir", s.dir, "-sc", settings}
	s.process, err = sut.Start(log, append(args, strings.Fields(os.Getenv("SUT_ARGS"))...)...)
	return err
}

// logTail is what the server said of trouble, or else its last line.
func (s *server) logTail() string {
	data, _ := os.ReadFile(s.log)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	trouble := []string{}
	for _, line := range lines {
		if !strings.Contains(line, "[INF]") {
			trouble = append(trouble, line)
		}
	}
	if len(trouble) == 0 {
		trouble = lines
	}
	return strings.Join(trouble[max(0, len(trouble)-3):], " / ")
}

// kill ends the server as `kill -9` does.
func (s *server) kill() {
	if s.process != nil {
		s.process.End()
	}
}

// stop ends it as an operator does.
func (s *server) stop() error {
	s.process.Signal(syscall.SIGTERM)
	select {
	case <-s.process.Exited:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("not stopped %v after SIGTERM: %s", patience, s.logTail())
	}
}

func (s *server) isRunning() bool {
	select {
	case <-s.process.Exited:
		return false
	default:
		return true
	}
}

// client is a STAN client over a NATS connection of its own.
type client struct {
	stan.Conn
	nc *nats.Conn
}

func (s *server) connect(id string) (*client, error) {
	nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", s.port), nats.NoReconnect(), nats.Timeout(patience),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, err
	}
	sc, err := stan.Connect(clusterID, id, stan.NatsConn(nc), stan.ConnectWait(5*time.Second), stan.PubAckWait(patience),
		stan.SetConnectionLostHandler(func(stan.Conn, error) {}))
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &client{sc, nc}, nil
}

// leave says goodbye; what a dead server no longer answers is not waited for.
func (c *client) leave() {
	if c.nc.IsConnected() {
		c.Close()
	}
	c.nc.Close()
}

// eventually polls a condition.
func eventually(wait time.Duration, holds func() bool) error {
	for deadline := time.Now().Add(wait); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("not in time")
		}
	}
	return nil
}
