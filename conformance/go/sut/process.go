// Package sut runs the server under test as a process of its own, for the programs here and in faults/go.
package sut

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// claimTime is how long a port stays its finder's, who has a server on it by then.
const claimTime = time.Minute

// FreePort is one from first up to last that nobody serves now. No other test that looks at the same moment gets the
// same one: two servers that start at once would share it without a word, and each other's clients.
func FreePort(first, last int) int {
	for {
		port := first + rand.IntN(last-first)
		claim, err := net.Listen("unix", fmt.Sprintf("@weirlog-test-port-%d", port))
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			time.AfterFunc(claimTime, func() { claim.Close() })
			return port
		}
		claim.Close()
	}
}

// Process is a server that runs or has ended.
type Process struct {
	*os.Process
	// Exited is closed when it has ended.
	Exited chan struct{}
	// ExitCode is set then.
	ExitCode int
}

// Start runs $SUT with these arguments. It writes into the log, and does not outlive this program.
func Start(log *os.File, args ...string) (*Process, error) {
	command := exec.Command(os.Getenv("SUT"), args...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &Process{Process: command.Process, Exited: make(chan struct{})}
	go func() {
		command.Wait()
		p.ExitCode = command.ProcessState.ExitCode()
		close(p.Exited)
	}()
	return p, nil
}

// End ends it as `kill -9` does.
func (p *Process) End() {
	p.Kill()
	<-p.Exited
}
